"""Other people's tasks: lm-eval, and questions."""
