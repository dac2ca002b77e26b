"""The database of wanted and confirmed versions and of the writers' leases. Knows no bucket, Milvus or Prefect."""
