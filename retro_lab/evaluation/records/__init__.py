"""Files of results: results.json, Parquet tables, and CSV."""
