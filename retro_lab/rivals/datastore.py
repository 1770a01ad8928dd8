"""The stages `token_states` and `token_index`: hidden states of the training tokens, with an index.

States are stored in float16, written in blocks that survive an interruption, and memory-mapped.
Their stage key depends on the weights of the model.

Shapes: T tokens of the training split, D width of the model, Q queries, K neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.schema import KnnLmConfig
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.nn import Retro
from retro_lab.retrieval.search.faiss_factory import as_user_error, fill_factory
from retro_lab.store import Artifact, Stage, Workspace, track

from .states import token_states

VERSION = 1
EXACT_UP_TO = 100_000
_BATCHES = 16  # in a block, the most that an interrupted build loses
_ADDED = 2**16  # keys indexed at once
_TRAINED_PER_LIST = 64
_INDEX_FILE = "index.faiss"


def states_stage(chunks: Artifact | Stage, subset: Subset, weights: str) -> Stage:
    """The stage `token_states` over all tokens of the subset."""
    fields = {
        "split": subset.split,
        "window": subset.chunking.sequence_length,
        "stride": subset.stride,
    }
    return Stage("token_states", VERSION, fields, {"chunks": chunks}, {"weights": weights})


def build_states(
    model: Retro, subset: Subset, batch_size: int, workspace: Workspace
) -> Mapping[str, Any]:
    """Writes keys.npy float16 [T, D], tokens.npy int32 [T] and document.npy int32 [T]."""
    data, windows = subset.windows()

    def produce(start: int, stop: int) -> dict[str, np.ndarray]:
        parts = list(token_states(model, data, windows[start:stop], batch_size))
        chunk = np.concatenate([part.chunk for part in parts])
        return {
            "keys": np.concatenate([part.keys.astype(np.float16) for part in parts]),
            "tokens": np.concatenate([part.tokens for part in parts]),
            "document": np.asarray(subset.store.document)[chunk],
        }

    size = _BATCHES * batch_size
    workspace.blocks(len(windows), size, produce, what="states of the database", unit="windows")
    tokens = np.load(workspace.path / "tokens.npy", mmap_mode="r", allow_pickle=False)
    return {"tokens": len(tokens), "width": model.config.d_model}


def index_stage(states: Stage, config: KnnLmConfig) -> Stage:
    """The stage `token_index`, a FAISS index over the states."""
    return Stage("token_index", VERSION, {"factory": config.factory}, {"token_states": states})


def build_index(states: Artifact, config: KnnLmConfig, workspace: Workspace) -> Mapping[str, Any]:
    """Trains the index on a sample and adds the keys block by block.

    Raises:
        UserError: FAISS cannot build this index for this number of states.
    """
    import faiss

    keys = np.load(states.file("keys.npy"), mmap_mode="r", allow_pickle=False)
    size, width = keys.shape
    factory = fill_factory(config.factory or _automatic(size), size, width)
    with as_user_error(str(config.factory), factory, size, width):
        index = faiss.index_factory(width, factory, faiss.METRIC_L2)
        if not index.is_trained:
            lists = getattr(faiss.try_extract_index_ivf(index), "nlist", 1024)
            rng = np.random.default_rng(0)
            count = min(size, _TRAINED_PER_LIST * lists)
            rows = np.sort(rng.choice(size, count, replace=False))
            index.train(keys[rows].astype(np.float32))
        with track(size, "indexing states", "tokens") as advance:
            for start in range(0, size, _ADDED):
                part = keys[start : start + _ADDED].astype(np.float32)
                index.add(part)
                advance(len(part))
    faiss.write_index(index, str(workspace.path / _INDEX_FILE))
    return {"factory": factory, "tokens": size}


def _automatic(size: int) -> str:
    return "Flat" if size <= EXACT_UP_TO else "IVF{nlist},SQfp16"


class Datastore:
    """Searches the states of the database's tokens.

    Args:
        states: the `token_states` artifact.
        index: its `token_index` artifact.
        nprobe: inverted lists that a query visits.

    Attributes:
        tokens: int32 [T], the token that followed each state.
        document: int32 [T], ascending.
    """

    def __init__(self, states: Artifact, index: Artifact, nprobe: int) -> None:
        import faiss

        self.tokens = np.load(states.file("tokens.npy"), mmap_mode="r", allow_pickle=False)
        self.document = np.load(states.file("document.npy"), mmap_mode="r", allow_pickle=False)
        self.index = faiss.read_index(str(index.file(_INDEX_FILE)), faiss.IO_FLAG_MMAP_IFC)
        self.nprobe = nprobe
        files = [f for artifact in (states, index) for f in artifact.manifest["files"].values()]
        self.num_bytes = sum(int(file["size"]) for file in files)

    def search(
        self, keys: NDArray[np.float32], document: NDArray[np.integer], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Squared distances and tokens of the k nearest states of *other* documents.

        Args:
            keys: [Q, D].
            document: [Q], document of each query, whose states are excluded as in RETRO.

        Returns:
            distances [Q, K] and tokens [Q, K]; infinite and -1 in slots without a neighbour.
        """
        distances = np.full((len(keys), k), np.inf, np.float32)
        tokens = np.full((len(keys), k), -1, np.int32)
        first = np.searchsorted(self.document, document)
        last = np.searchsorted(self.document, document, side="right")
        for begin in np.unique(np.where(last > first, first, -1)):
            mine = np.flatnonzero(np.where(last > first, first, -1) == begin)
            own = None if begin < 0 else (int(begin), int(last[mine[0]]))
            found, rows = self._search(np.ascontiguousarray(keys[mine]), k, own)
            distances[mine] = np.where(rows >= 0, found, np.inf)
            tokens[mine] = np.where(rows >= 0, self.tokens[np.maximum(rows, 0)], -1)
        return distances, tokens

    def _search(self, keys: NDArray[np.float32], k: int, own: tuple[int, int] | None) -> Any:
        import faiss

        settings: dict[str, Any] = {}
        if own is not None:
            inside = faiss.IDSelectorRange(*own)
            settings["sel"] = faiss.IDSelectorNot(inside)
        if faiss.try_extract_index_ivf(self.index) is not None:
            settings["nprobe"] = self.nprobe
            parameters = faiss.SearchParametersIVF(**settings)
        else:
            parameters = faiss.SearchParameters(**settings)
        return self.index.search(keys, k, params=parameters)
