"""Words, sentences and Markdown. Pure; everything else may import it."""
