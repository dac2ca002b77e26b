"""The Prefect flows, one per file."""
