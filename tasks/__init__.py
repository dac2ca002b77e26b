"""What is done: one verb a file, pure functions first, a thin Prefect task around them last."""
