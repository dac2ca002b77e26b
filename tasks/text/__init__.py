"""Words, sentences and Markdown. Pure functions, which every other package may import."""
