"""The command line: what a person types, and what is printed. Imports everything below; only the demo imports it."""
