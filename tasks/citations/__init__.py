"""Turn a model's output into claims with checked quotes. Pure: it imports text alone; no network, no Prefect."""
