"""Guards between people and documents: personal data, and a moderation endpoint. Knows no ledger and no Prefect."""
