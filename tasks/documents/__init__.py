"""Files become elements, and elements chunks. Knows no bucket, no index and no Prefect."""
