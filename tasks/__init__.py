"""The work: pure functions, and a thin Prefect task around each one that is retried. Imports only `blocks`."""
