"""Searches: lexical, by FAISS, fused, re-ranked, and the controls."""
