"""Texts become vectors: models, tokenizers, and what is embedded together. Knows no documents and no Prefect."""
