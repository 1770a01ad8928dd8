"""Text alone as a model: a byte n-gram and xz, on the tokens that are scored."""
