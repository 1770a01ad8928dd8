"""Evaluation: sums of nats and bytes, leakage curves with intervals, results files and plots."""
