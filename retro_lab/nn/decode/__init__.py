"""Generation: caches, the forward pass of one token, sampling, when to search."""
