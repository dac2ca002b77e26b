"""Files become elements, and elements chunks. Stands on text and limits. Knows no bucket, no index and no Prefect."""
