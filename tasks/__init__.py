"""The work itself: pure functions, with a thin Prefect task around those that are retried. Imports `blocks` alone."""
