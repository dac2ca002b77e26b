"""The command line: options, output and exit codes. It may import everything below; only the demo imports it."""
