"""Evaluation of a finished run on external tasks: lm-eval and question answering."""
