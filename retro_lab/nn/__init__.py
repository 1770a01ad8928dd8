"""RETRO in plain PyTorch (Borgeaud et al. 2021, arXiv 2112.04426); depends on nothing but torch.

On a CPU `fused.py` takes the place of some of its operations, where there is a C compiler for
`kernels/`; every result is that of the plain operations.

Shape legend, used throughout the package:
    B batch          N tokens of a sequence    U chunks of a sequence    M tokens a chunk
    K neighbours     R tokens a neighbour (with its continuation)
    D decoder width  E encoder width  H heads  P head width  F feed-forward width  V vocabulary
    X rows of a flattened batch of chunks or neighbours

Layers are counted from 1, as in the paper, in configurations and messages.
"""

from .config import RetroConfig
from .decode.generation import Query, generate
from .decode.sampling import Sampling
from .retro import Retro

__all__ = ["Query", "Retro", "RetroConfig", "Sampling", "generate"]
