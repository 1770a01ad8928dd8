"""Training with PyTorch Lightning: `fit` trains a model and can be interrupted and resumed."""
