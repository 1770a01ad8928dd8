"""What a chunk may not read: its own document, leaks, near-duplicates."""
