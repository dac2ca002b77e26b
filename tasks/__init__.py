"""The work: pure functions first, and a thin Prefect task around them where one is retried. Imports `blocks` alone."""
