"""Training on pytorch-lightning: one call, `fit`, that can be interrupted and repeated."""
