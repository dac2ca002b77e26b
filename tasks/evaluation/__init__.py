"""Golden questions, metrics, and the gates of a promotion. The top: it may import both wings."""
