"""What a model wrote becomes claims whose quotes are checked. Pure: no network, no Prefect."""
