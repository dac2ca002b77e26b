"""Golden questions, metrics, and the gates of a promotion. May import from indexing, retrieval and answers."""
