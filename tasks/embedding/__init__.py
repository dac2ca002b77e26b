"""Texts become vectors: the models, their tokenizers, and what is embedded together."""
