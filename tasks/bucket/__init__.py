"""The bucket: its listing, and the bytes of each listed version. Knows no index, no ledger and no Prefect."""
