"""Which index is built, live and kept, and with which settings. Stands on resources; both wings stand on it."""
