"""Searches: lexical, FAISS, fused, re-ranked, and the controls."""
