"""The chat server: the call, the translation of its errors, and its response. Knows no passages and no Prefect."""
