"""RETRO in plain PyTorch (Borgeaud et al. 2021, arXiv 2112.04426); depends on torch only.

Start with `retro.py`, which has the model and the legend of shapes. `decode/` generates text.
"""

from .config import RetroConfig
from .decode import Query, Sampling, generate
from .retro import Retro

__all__ = ["Query", "Retro", "RetroConfig", "Sampling", "generate"]
