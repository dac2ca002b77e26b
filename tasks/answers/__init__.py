"""Answer a question with citations. Imports retrieval and the common ground, nothing from indexing."""
