"""Find chunks for a question. Imports generations and the common ground, nothing from indexing."""
