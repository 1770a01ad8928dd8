"""Tiny pretrained encoders, saved once a module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import save_encoder, save_static


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: two encoders, a wider one, static embeddings."""
    folder = tmp_path_factory.mktemp("models")
    save_encoder(folder / "one", seed=1)
    save_encoder(folder / "two", seed=2)
    save_encoder(folder / "wide", width=32)
    save_static(folder / "static", torch.randn(45, 8, generator=torch.Generator().manual_seed(3)))
    return folder
