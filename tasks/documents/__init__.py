"""Turn files into elements, and elements into chunks. Imports text and limits; knows no bucket, index or Prefect."""
