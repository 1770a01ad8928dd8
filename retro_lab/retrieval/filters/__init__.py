"""Filters that keep a chunk from reading its own document, leaks and near-duplicates."""
