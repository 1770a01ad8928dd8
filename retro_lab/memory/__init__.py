"""Memory read-outs: evidence for the next token from a text database, mixed in by a small gate."""
