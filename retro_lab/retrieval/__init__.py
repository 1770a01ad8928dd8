"""Retrieval: retrievers, the embeddings they search, and the stored neighbour table."""
