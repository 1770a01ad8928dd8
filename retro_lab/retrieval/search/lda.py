"""Search by topics: chunks whose mixtures of topics are most alike, whatever their words.

Latent Dirichlet allocation (Blei, Ng and Jordan, 2003) explains a chunk's bag of tokens by a
mixture of topics. The topics are fitted on the database's chunks by online variational Bayes
(Hoffman, Blei and Bach, 2010), as scikit-learn does. Mixtures are compared by the Bhattacharyya
coefficient, the sum over topics of sqrt(p q): it is 1 for equal mixtures, and orders chunks as the
Hellinger distance does. It is the inner product of unit vectors, so FAISS searches it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from retro_lab.config.schema import FaissRetrieverConfig, LdaRetrieverConfig
from retro_lab.store.workspace import Workspace

from ..base import Neighbours, Queries, Retriever, RowSource
from .faiss_index import FaissRetriever
from .lexical import vocabulary_of
from .registry import load_retriever

_MIXTURES, _FOLDER = FaissRetrieverConfig(), "mixtures"


class LdaRetriever(Retriever):
    """The chunks nearest in their mixture of topics; tokens outside the database are ignored."""

    def __init__(self, config: LdaRetrieverConfig) -> None:
        self.config = config
        self.model: Any = None  # scikit-learn's, once built or loaded
        self.mixtures: Any = FaissRetriever(_MIXTURES)

    @classmethod
    def index_fields(cls, config: LdaRetrieverConfig) -> dict[str, Any]:
        """All settings: each changes the topics."""
        return {name: value for name, value in asdict(config).items() if name != "name"}

    def build(
        self,
        chunk_ids: np.ndarray,
        tokens: RowSource,
        embeddings: RowSource | None,
        workspace: Workspace | None = None,
    ) -> Mapping[str, Any]:
        """Fits the topics and indexes the chunks' mixtures; ignores embeddings.

        Raises:
            UserError: no chunk holds text.
        """
        tokens = np.asarray(tokens)
        vocabulary = vocabulary_of(tokens, self.config.name)
        with _one_thread():
            self.model = _model(self.config).fit(token_counts(tokens, vocabulary))
        self.mixtures.build(chunk_ids, tokens, self._vectors(tokens))
        return {"vocabulary": vocabulary, "topics": self.config.topics}

    def candidates(self, queries: Queries, k: int) -> Neighbours:
        """The k chunks with the most similar mixtures."""
        vectors = self._vectors(queries.tokens)
        return self.mixtures.candidates(queries._replace(embeddings=vectors), k)

    def save(self, folder: Path) -> None:
        np.save(folder / "topics.npy", self.model.exp_dirichlet_component_, allow_pickle=False)
        (folder / _FOLDER).mkdir()
        self.mixtures.save(folder / _FOLDER)

    @classmethod
    def load(cls, folder: Path, config: LdaRetrieverConfig) -> Self:
        retriever = cls(config)
        topics = np.load(folder / "topics.npy", allow_pickle=False)
        # What `transform` reads of a fitted model. Its own format, pickle, could run any code.
        retriever.model = _model(config)
        retriever.model.components_ = retriever.model.exp_dirichlet_component_ = topics
        retriever.model.doc_topic_prior_ = 1 / config.topics
        retriever.mixtures = load_retriever(_MIXTURES, folder / _FOLDER)
        return retriever

    def _vectors(self, tokens: np.ndarray) -> np.ndarray:
        """float32 [n, topics], square roots of the mixtures of token rows [n, M]."""
        rows, place = np.unique(tokens, axis=0, return_inverse=True)
        vocabulary = self.model.exp_dirichlet_component_.shape[1]
        with _one_thread():
            mixtures = self.model.transform(token_counts(rows, vocabulary))
        return np.sqrt(mixtures).astype(np.float32)[place]


def token_counts(tokens: np.ndarray, vocabulary: int) -> Any:
    """Sparse float32 [n, V], how often each token below V occurs in each row of tokens [n, M]."""
    from scipy.sparse import coo_array

    known = (tokens >= 0) & (tokens < vocabulary)
    rows, columns = np.nonzero(known)
    ones = np.ones(len(rows), np.float32)
    return coo_array((ones, (rows, tokens[rows, columns])), shape=(len(tokens), vocabulary)).tocsr()


def _model(config: LdaRetrieverConfig) -> Any:
    """An unfitted model, with scikit-learn's symmetric priors of 1 / topics."""
    from sklearn.decomposition import LatentDirichletAllocation

    return LatentDirichletAllocation(
        config.topics,
        learning_method="online",
        max_iter=config.passes,
        batch_size=config.batch_size,
        random_state=config.seed,
        n_jobs=1,
    )


def _one_thread() -> Any:
    """The order of sums, and so the topics, would depend on the number of threads."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)
