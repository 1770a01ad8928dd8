"""What is measured: scores, overlap, leakage, gain, and their intervals."""
