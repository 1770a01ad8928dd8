"""The model's operations as C kernels, put in the place of a model's modules by `accelerate`."""

from .accelerate import accelerate, plain

__all__ = ["accelerate", "plain"]
