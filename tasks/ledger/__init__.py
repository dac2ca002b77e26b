"""The database of what is wanted, what is confirmed, and who may write. Knows no bucket, no Milvus and no Prefect."""
