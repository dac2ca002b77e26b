"""The Prefect flows, one file each."""
