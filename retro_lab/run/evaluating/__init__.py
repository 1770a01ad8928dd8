"""The evaluation of a trained run: scores by condition, what follows from them, and its files."""
