"""Sweeps over settings: their points, studies by Optuna, and what of them is unfinished."""
