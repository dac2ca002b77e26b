"""Turn a model's text into claims with checked quotes. Pure functions on text: no network, no Prefect."""
