"""Parquet files cut at their row groups: the footer read and written again, and which groups make a shard."""
