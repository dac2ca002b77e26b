"""The bucket: its listing, and the bytes of a listed version. Knows no index, no ledger and no Prefect."""
