"""From a question to chunks. Uses generations and the common ground; knows nothing of indexing."""
