"""The vector database: collections, rows, searches and capabilities. Knows no ledger and no Prefect."""
