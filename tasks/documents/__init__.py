"""Parse files into elements, and cut elements into chunks. Knows no bucket, no index and no Prefect."""
