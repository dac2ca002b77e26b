"""The demo: from nothing to a bucket, an index and answered questions. Nothing imports it."""
