"""From the bucket to the index: what is to be done, the life of a batch, and the audit."""
