"""Late interaction (ColBERT's MaxSim): a text has one vector a token.

A candidate's score is the sum, over the query's tokens, of the best match among the candidate's
tokens. The model reads queries and candidates separately, so each text costs one forward pass, in
any number of pairs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import DenseNeuralRetrieverConfig

from .pretrained import loading, model_folder, settings_of

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

PAIRS = 4096  # scored at once to bound memory; ColBERT takes 33 kB for a chunk of 64


class LateInteraction:
    """MaxSim of token vectors, by a ColBERT model or by any encoder without a projection.

    Attributes:
        model: the sentence-transformers model.

    Source: Khattab and Zaharia, "ColBERT: efficient and effective passage search via contextualized
    late interaction over BERT", 2020.
    """

    def __init__(self, config: DenseNeuralRetrieverConfig, *, at_once: int = PAIRS) -> None:
        folder = model_folder("retriever.model", config.model)
        self.model = load_multi_vector(folder, config.model)
        self._batch_size, self._at_once = config.batch_size, at_once

    def __call__(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        """float32 scores of (query, candidate) texts."""
        size = self._at_once
        starts = range(0, len(pairs), size)
        return np.concatenate([self._scores(pairs[start : start + size]) for start in starts])

    def _scores(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        size = self._batch_size
        queries, texts = (list(dict.fromkeys(side)) for side in zip(*pairs, strict=True))
        asked = self.model.encode_query(queries, batch_size=size, show_progress_bar=False)
        known = self.model.encode_document(texts, batch_size=size, show_progress_bar=False)
        of_query = dict(zip(queries, asked, strict=True))
        of_text = dict(zip(texts, known, strict=True))
        scores = self.model.similarity_pairwise(
            [of_query[query] for query, _ in pairs], [of_text[text] for _, text in pairs]
        )
        return scores.cpu().numpy()


def load_multi_vector(folder: Path, name: str) -> MultiVectorEncoder:
    """The model of a folder, with queries as long as documents, since both are chunks here.

    Raises:
        UserError: the model reads pairs of texts, or can't be loaded.
    """
    if any(name.endswith("ForSequenceClassification") for name in _architectures(folder)):
        raise UserError(
            f"retriever.model={name} scores pairs of texts; it has no vectors of single ones",
            fix="give a ColBERT model or an encoder, or set retriever.scorer=cross_encoder",
        )
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    with loading("retriever.model", name):
        if _is_multi_vector(folder):
            model = MultiVectorEncoder(str(folder), local_files_only=True, trust_remote_code=False)
        else:  # the library would add a projection with random weights
            tokens = Normalize(module_input_name="token_embeddings")
            parts = ("model_kwargs", "processor_kwargs", "config_kwargs")
            untrusted: Any = {part: {"trust_remote_code": False} for part in parts}
            modules = [Transformer(str(folder), **untrusted), MultiVectorMask(), tokens]
            model = MultiVectorEncoder(modules=modules)
    transformer: Any = model[0]
    transformer.query_expansion = None
    transformer.query_length = transformer.document_length
    return model


def _is_multi_vector(folder: Path) -> bool:
    """Whether a model was made for late interaction, in any of the three formats."""
    packaged = settings_of(folder, "config_sentence_transformers.json").get("model_type")
    return packaged in ("ColBERT", "MultiVectorEncoder") or "HF_ColBERT" in _architectures(folder)


def _architectures(folder: Path) -> list[str]:
    return settings_of(folder).get("architectures") or []
