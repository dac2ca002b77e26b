"""Turn texts into vectors: models, tokenizers and batches. Knows no documents and no Prefect."""
