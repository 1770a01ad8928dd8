"""C kernels for the model's operations on a CPU, installed into a model by `accelerate`."""

from .accelerate import accelerate, plain

__all__ = ["accelerate", "plain"]
