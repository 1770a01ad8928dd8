"""RETRO in plain PyTorch (Borgeaud et al. 2021, arXiv 2112.04426); depends on nothing but torch.

`retro.py` has the model and the legend of shapes; begin there. `decode/` generates with it.
"""

from .config import RetroConfig
from .decode import Query, Sampling, generate
from .retro import Retro

__all__ = ["Query", "Retro", "RetroConfig", "Sampling", "generate"]
