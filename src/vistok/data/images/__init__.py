"""Images from folders, shards, parquet files, and data sets that come with packages."""
