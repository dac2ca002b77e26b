"""The command line: commands, options and printed output. Imports everything below; only the demo imports it."""
