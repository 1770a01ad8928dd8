"""RETRO and Hugging Face: retrieval grafted on their decoders, and RETRO as one of their models.

Importing this package makes `AutoConfig` and `AutoModelForCausalLM` know RETRO.
"""

from .graft import GraftedRetro
from .model import RetroForCausalLM, RetroHFConfig

__all__ = ["GraftedRetro", "RetroForCausalLM", "RetroHFConfig"]
