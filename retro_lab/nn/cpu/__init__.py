"""The model's operations as C kernels: `accelerate` puts them in a model's place, with its weights."""

from .accelerate import accelerate, plain

__all__ = ["accelerate", "plain"]
