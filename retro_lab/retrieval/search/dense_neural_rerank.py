"""Dense candidates reordered by a neural ranker, the usual pipeline to compare RETRO's search with.

A cross-encoder reads query and candidate together, at one forward pass a candidate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import DenseNeuralRetrieverConfig

from ..base import NO_CHUNK, Queries
from ..embed.late_interaction import LateInteraction
from ..embed.pretrained import digest_of, loading, model_folder, on_hub, settings_of
from .combined import Reranker

Scorer = Callable[[list[tuple[str, str]]], np.ndarray]
"""Maps (query, candidate) texts to float32 scores, one a pair."""


class DenseNeuralReranker(Reranker):
    """Reorders the first dense candidates by a cross-encoder or late interaction.

    Equal pairs of texts are scored once. Scores may differ in the last bit between machines.
    """

    needs_embeddings = True

    @classmethod
    def index_fields(cls, config: DenseNeuralRetrieverConfig) -> dict[str, Any]:
        """Settings of the dense search, and the ranker: a digest for a folder, a hub name.

        Raises:
            UserError: the folder has no weights.
        """
        name = config.model
        ranker = name if on_hub(name) else digest_of(model_folder("retriever.model", name))
        return {**super().index_fields(config), "ranker": ranker}

    @cached_property
    def scorer(self) -> Scorer:
        """The model, loaded with the first pair; replaceable in tests."""
        return load_scorer(self.config)

    def score(self, queries: Queries, ids: np.ndarray) -> np.ndarray:
        """The ranker's score of each candidate.

        Raises:
            UserError: the model is missing, or the search has no raw text.
        """
        asked = queries.raw_texts()
        rows, columns = np.nonzero(ids != NO_CHUNK)
        chunks, place = np.unique(ids[rows, columns], return_inverse=True)
        texts = queries.text_of(chunks)
        pairs = [(asked[row], texts[at]) for row, at in zip(rows, place, strict=True)]
        distinct = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
        scores = np.zeros(ids.shape, dtype=np.float32)
        if distinct:
            found = np.asarray(self.scorer(list(distinct)), dtype=np.float32)
            scores[rows, columns] = found[[distinct[pair] for pair in pairs]]
        return scores


def load_scorer(config: DenseNeuralRetrieverConfig) -> Scorer:
    """The ranker; downloads a hub model unless cached.

    Raises:
        UserError: the folder, hub model or network is missing, or the model can't score pairs.
    """
    if config.scorer == "late_interaction":
        return LateInteraction(config)
    folder = model_folder("retriever.model", config.model)
    from sentence_transformers import CrossEncoder

    architectures = settings_of(folder).get("architectures") or []
    if architectures and all(name.endswith("Model") for name in architectures):
        raise UserError(
            f"retriever.model={config.model} embeds single texts; it has no head that scores pairs",
            fix="give a cross-encoder, or set retriever.scorer=late_interaction",
        )
    with loading("retriever.model", config.model):
        model = CrossEncoder(
            str(folder), num_labels=1, local_files_only=True, trust_remote_code=False
        )

    def score(pairs: list[tuple[str, str]]) -> np.ndarray:
        return model.predict(pairs, batch_size=config.batch_size, show_progress_bar=False)

    return score
