"""Embedders: one vector or several for each chunk."""
