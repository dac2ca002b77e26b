"""The vector database: collections, rows, searches, and what the server can do."""
