"""Golden questions, metrics, and the gates of a promotion."""
