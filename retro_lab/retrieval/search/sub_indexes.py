"""Keys, saving and loading of the parts of a combined search, each in its own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retro_lab.config.schema import RetrieverConfig

from ..base import Retriever
from .registry import index_fields, load_retriever


def sub_index_fields(config: RetrieverConfig) -> dict[str, Any]:
    """The settings that change a saved sub-index, including its kind."""
    return {"kind": kind_of(config), **index_fields(config)}


def kind_of(config: RetrieverConfig) -> str:
    """Name of a retriever's kind in a stage's key."""
    return type(config).__name__.removesuffix("RetrieverConfig").lower()


def save_sub_index(retriever: Retriever, folder: Path, name: str) -> None:
    """Writes a sub-index into a new subfolder."""
    (folder / name).mkdir()
    retriever.save(folder / name)


def load_sub_index(config: RetrieverConfig, folder: Path, name: str) -> Any:
    """Opens a sub-index of `save_sub_index`."""
    return load_retriever(config, folder / name)
