"""The Model Context Protocol: tools and resources for assistants, at /mcp."""
