"""Estimates disk, memory and time for a corpus before anything is built."""
