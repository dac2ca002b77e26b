"""The vector database: collections, rows, searches, what the server can do. Knows no ledger and no Prefect."""
