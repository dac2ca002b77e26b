"""Index a bucket: plan, process batches, audit. Imports nothing from retrieval and answers."""
