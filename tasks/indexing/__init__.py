"""From the bucket to the index: the plan, the life of a batch, the audit. Knows nothing of retrieval and answers."""
