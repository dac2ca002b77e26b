"""From a question to chunks. Stands on generations and the common ground; knows nothing of indexing."""
