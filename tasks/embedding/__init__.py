"""Embed texts: models, tokenizers and batches. Knows no documents and no Prefect."""
