"""Text: from files to documents, splits, tokens and chunks, each stored once and memory-mapped."""
