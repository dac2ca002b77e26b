"""From a question to a cited answer. Uses retrieval and the common ground; knows nothing of indexing."""
