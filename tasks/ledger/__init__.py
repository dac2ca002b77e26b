"""The ledger: the database of wanted and confirmed versions and of leases. Knows no bucket, Milvus or Prefect."""
