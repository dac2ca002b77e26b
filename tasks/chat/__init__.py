"""The chat server: one call, its errors in our words, and what its answer says. Knows no passages and no Prefect."""
