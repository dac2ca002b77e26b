"""What the service remembers of its answers, and tells Prefect."""
