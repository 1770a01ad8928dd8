"""Rivals of RETRO on the same text and database: kNN-LM, RALM, larger models and compressors."""
