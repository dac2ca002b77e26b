"""Words, sentences and Markdown."""
