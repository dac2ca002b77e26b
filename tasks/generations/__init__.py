"""Which index is built, which is live, which are kept, and with which settings."""
