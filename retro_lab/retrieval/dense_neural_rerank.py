"""Dense candidates in the order of a cross-encoder: the pipeline that RETRO's search is compared
with. It reads both texts at once, so it costs a forward pass a candidate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retro_lab.config.console import no_loading_bar
from retro_lab.config.errors import UserError
from retro_lab.config.schema import DenseNeuralRetrieverConfig
from retro_lab.retrieval.base import NO_CHUNK, Queries
from retro_lab.retrieval.dense_rerank import DenseReranker

WEIGHTS = "model.safetensors"

Scorer = Callable[[list[tuple[str, str]]], np.ndarray]
"""From (query, candidate) texts to float32 scores, one a pair."""


class DenseNeuralReranker(DenseReranker):
    """A sentence-transformers cross-encoder over the first dense candidates.

    Equal pairs of texts are scored once, longest first. Scores may differ in the last bit between
    machines, as all that a network computes does.
    """

    @classmethod
    def index_fields(cls, config: DenseNeuralRetrieverConfig) -> dict[str, Any]:
        """The dense search's, and which weights rank: a local folder's by content.

        Raises:
            UserError: the folder has no weights.
        """
        return {**super().index_fields(config), "ranker": _weights_name(config)}

    @cached_property
    def scorer(self) -> Scorer:
        """The model, loaded when the first pair is scored."""
        return load_scorer(self.config)

    def score(self, queries: Queries, ids: np.ndarray) -> np.ndarray:
        """The cross-encoder's score of each candidate.

        Raises:
            UserError: the model isn't there, or the query is no text of the store.
        """
        text_of = queries.text_of
        if text_of is None or (queries.chunk_ids == NO_CHUNK).any():
            raise UserError(
                "retriever=dense_neural_rerank compares raw text, which this search doesn't have",
                fix="search for chunks of the corpus, or use retriever=dense_bm25_rerank",
            )
        rows, columns = np.nonzero(ids != NO_CHUNK)
        chunks, place = np.unique(ids[rows, columns], return_inverse=True)
        asked, texts = text_of(queries.chunk_ids), text_of(chunks)
        pairs = [(asked[row], texts[at]) for row, at in zip(rows, place, strict=True)]
        distinct = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
        scores = np.zeros(ids.shape, dtype=np.float32)
        if distinct:
            found = np.asarray(self.scorer(list(distinct)), dtype=np.float32)
            scores[rows, columns] = found[[distinct[pair] for pair in pairs]]
        return scores


def load_scorer(config: DenseNeuralRetrieverConfig) -> Scorer:
    """The cross-encoder; a hub model is downloaded unless it is cached.

    Raises:
        UserError: there is no such folder or hub model, no network to fetch it, or no
            cross-encoder in it.
    """
    if not _on_hub(config.model):
        _weights_file(config)
    from sentence_transformers import CrossEncoder

    try:
        with no_loading_bar():
            model = CrossEncoder(config.model, num_labels=1)
    except (OSError, ValueError) as error:  # no network, no such model, or no model in the folder
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"retriever.model={config.model} is not a cross-encoder that can be loaded: {reason}",
            fix="check the name and the network, or give a local folder",
        ) from error

    architectures = getattr(model.config, "architectures", None) or []
    if all(name.endswith("Model") for name in architectures):  # its head would be random
        raise UserError(
            f"retriever.model={config.model} embeds single texts; it has no head that scores pairs",
            fix="give a cross-encoder, or set embedder.model to this one with retriever=faiss_flat",
        )

    def score(pairs: list[tuple[str, str]]) -> np.ndarray:
        return model.predict(pairs, batch_size=config.batch_size, show_progress_bar=False)

    return score


def _weights_name(config: DenseNeuralRetrieverConfig) -> str:
    if _on_hub(config.model):
        return config.model
    with _weights_file(config).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights_file(config: DenseNeuralRetrieverConfig) -> Path:
    folder = Path(config.model).expanduser()
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"retriever.model={config.model}: {folder} has no {WEIGHTS}",
            fix="give a folder with a sentence-transformers cross-encoder, or a hub name",
        )
    return folder / WEIGHTS


def _on_hub(model: str) -> bool:
    path = Path(model).expanduser()
    return not (path.is_absolute() or model.startswith((".", "~")) or path.is_dir())
