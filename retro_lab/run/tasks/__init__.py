"""A finished run on the tasks of others: lm-eval, and questions."""
