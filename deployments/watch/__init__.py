"""The watcher: notifications of S3 servers, turned into the names of objects to look at."""
