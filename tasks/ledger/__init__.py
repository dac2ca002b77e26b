"""The database of what is wanted, what is confirmed, and who may write: one module for each table."""
