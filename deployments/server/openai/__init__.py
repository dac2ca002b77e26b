"""OpenAI's routes: what clients and chat pages made for OpenAI's API ask, answered from the index."""
