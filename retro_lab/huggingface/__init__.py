"""RETRO with Hugging Face: retrieval grafted onto their decoders, and RETRO as one of their models.

Importing this package registers RETRO with `AutoConfig` and `AutoModelForCausalLM`.
"""

from .graft import GraftedRetro
from .model import RetroForCausalLM, RetroHFConfig

__all__ = ["GraftedRetro", "RetroForCausalLM", "RetroHFConfig"]
