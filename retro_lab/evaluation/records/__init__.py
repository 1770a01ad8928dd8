"""What is written down: results.json and the Parquet tables."""
