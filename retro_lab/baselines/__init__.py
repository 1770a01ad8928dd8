"""Rivals of RETRO on the same data, the same database and the same scored tokens."""
