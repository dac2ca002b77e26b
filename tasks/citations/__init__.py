"""What a model wrote becomes claims whose quotes are checked. Pure: stands on text alone; no network, no Prefect."""
