"""Embedders: a vector, or several, for each chunk."""
