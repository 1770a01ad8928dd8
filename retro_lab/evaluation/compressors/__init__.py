"""Compressors as rivals of RETRO: a byte n-gram and xz, scored on the same tokens."""
