"""Cuts Parquet files at their row groups: reads the footer, writes new ones, and chooses the groups of each shard."""
