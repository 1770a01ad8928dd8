"""Windows of the chunk store as batches, in an order that survives interruption."""
