"""Searches made of others: how a sub-index is keyed, stored and opened, each in its own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retro_lab.config.schema import RetrieverConfig

from ..base import Retriever
from .registry import load_retriever, retriever_class


def sub_index_fields(config: RetrieverConfig) -> dict[str, Any]:
    """The settings that change what a sub-index saves, its kind included."""
    return {"kind": kind_of(config), **retriever_class(config).index_fields(config)}


def kind_of(config: RetrieverConfig) -> str:
    """Name of a retriever's kind in the key of a stage."""
    return type(config).__name__.removesuffix("RetrieverConfig").lower()


def save_sub_index(retriever: Retriever, folder: Path, name: str) -> None:
    """Writes a sub-index into a new folder below that of the search."""
    (folder / name).mkdir()
    retriever.save(folder / name)


def load_sub_index(config: RetrieverConfig, folder: Path, name: str) -> Any:
    """Opens what `save_sub_index` wrote."""
    return load_retriever(config, folder / name)
