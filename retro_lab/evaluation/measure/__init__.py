"""Measurements: scores, overlap, leakage, gain, and their intervals."""
