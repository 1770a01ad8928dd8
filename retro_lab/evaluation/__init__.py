"""Evaluation: scores, leakage curves with intervals, result files, plots and external tasks."""
