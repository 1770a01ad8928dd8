"""Batches of windows from the chunk store, in an order that can be resumed."""
