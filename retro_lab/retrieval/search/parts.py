"""Searches made of others: how a part is keyed, stored and opened, each in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retro_lab.config.schema import RetrieverConfig

from ..base import Retriever
from .registry import load_retriever, retriever_class


def part_fields(config: RetrieverConfig) -> dict[str, Any]:
    """What of a part changes the bytes that it saves, its kind included."""
    return {"kind": kind_of(config), **retriever_class(config).index_fields(config)}


def kind_of(config: RetrieverConfig) -> str:
    """Name of a retriever's kind in the key of a stage."""
    return type(config).__name__.removesuffix("RetrieverConfig").lower()


def save_part(part: Retriever, folder: Path, name: str) -> None:
    """Write a part into a new folder below the whole's."""
    (folder / name).mkdir()
    part.save(folder / name)


def load_part(config: RetrieverConfig, folder: Path, name: str) -> Any:
    """Open what `save_part` wrote."""
    return load_retriever(config, folder / name)
