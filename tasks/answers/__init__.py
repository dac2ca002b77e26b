"""From a question to a cited answer. Stands on retrieval and the common ground; knows nothing of indexing."""
