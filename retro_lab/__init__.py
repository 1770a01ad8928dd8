"""retro_lab: how much of a retrieval gain is knowledge, and how much is leakage?"""

__version__ = "0.1.0"
