"""The bucket: what it lists, and the bytes of the version that was listed. Knows no index, no ledger and no Prefect."""
