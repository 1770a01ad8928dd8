"""The evaluation of a trained run: scores by condition, figures, and result files."""
