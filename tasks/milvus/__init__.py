"""The vector database: collections, rows, searches and the server's capabilities. Knows no ledger and no Prefect."""
