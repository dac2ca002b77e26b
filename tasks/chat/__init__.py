"""The chat server: the call, its errors and its response. Knows no passages and no Prefect."""
