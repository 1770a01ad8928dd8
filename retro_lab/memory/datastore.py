"""The stages `token_states` and `token_index`: a model's states of the training tokens, indexed.

States are stored in float16, written in blocks that survive an interruption, and memory-mapped.
Their stage key depends on the weights of the model.

Shapes: T tokens of the training split, D width of the model, Q queries, K neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.data.dataset import EvaluationData
from retro_lab.nn import Retro
from retro_lab.retrieval.search.faiss_factory import as_user_error, fill_factory
from retro_lab.store import Artifact, Stage, Workspace, mapped, track

from .states import token_states

if TYPE_CHECKING:
    from retro_lab.huggingface import GraftedRetro

VERSION = 1
EXACT_UP_TO = 100_000
COMPRESSED = "compressed"
_BATCHES = 16  # in a block, the most that an interrupted build loses
_ADDED = 2**16  # keys indexed at once
_TRAINED_PER_LIST = 64
_RANKED_AT_ONCE = 64  # queries whose candidates' states are compared
_INDEX_FILE = "index.faiss"


def states_stage(
    chunks: Artifact | Stage,
    weights: str,
    *,
    window: int,
    stride: int,
    neighbours: Artifact | Stage | None = None,
    k: int = 0,
) -> Stage:
    """The stage `token_states` over all tokens of the training split.

    Args:
        weights: digest of the model.
        window, stride: tokens, of the windows that the model reads.
        neighbours: that the model reads, k for each chunk; None for a model without retrieval.
    """
    fields: dict[str, Any] = {"split": "train", "window": window, "stride": stride}
    parents = {"chunks": chunks}
    if neighbours is not None:
        fields["k"] = k
        parents["neighbours"] = neighbours
    return Stage("token_states", VERSION, fields, parents, {"weights": weights})


def build_states(
    model: Retro | GraftedRetro,
    data: EvaluationData,
    windows: NDArray[np.int64],
    batch_size: int,
    workspace: Workspace,
) -> Mapping[str, Any]:
    """Writes keys.npy float16 [T, D], tokens.npy int32 [T] and document.npy int32 [T]."""

    def produce(start: int, stop: int) -> dict[str, np.ndarray]:
        parts = list(token_states(model, data, windows[start:stop], batch_size))
        chunk = np.concatenate([part.chunk for part in parts])
        return {
            "keys": np.concatenate([part.keys.astype(np.float16) for part in parts]),
            "tokens": np.concatenate([part.tokens for part in parts]),
            "document": np.asarray(data.store.document)[chunk],
        }

    size = _BATCHES * batch_size
    workspace.blocks(len(windows), size, produce, what="states of the database", unit="windows")
    tokens = np.load(workspace.path / "tokens.npy", mmap_mode="r", allow_pickle=False)
    return {"tokens": len(tokens), "width": model.config.d_model}


def index_stage(states: Artifact | Stage, factory: str | None) -> Stage:
    """The stage `token_index`, a FAISS index over the states.

    Args:
        factory: FAISS's index string, with the placeholders of `fill_factory`; None or `COMPRESSED`
            for exact search up to `EXACT_UP_TO` states, and beyond for an inverted file of vectors
            in half precision, or compressed by product quantisation in fewer lists.
    """
    return Stage("token_index", VERSION, {"factory": factory}, {"token_states": states})


def build_index(states: Artifact, factory: str | None, workspace: Workspace) -> Mapping[str, Any]:
    """Trains the index on a sample and adds the keys block by block.

    Raises:
        UserError: FAISS cannot build this index for this number of states.
    """
    import faiss

    keys = np.load(states.file("keys.npy"), mmap_mode="r", allow_pickle=False)
    size, width = keys.shape
    filled = factory_for(factory, size, width)
    with as_user_error(str(factory), filled, size, width):
        index = faiss.index_factory(width, filled, faiss.METRIC_L2)
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
    return {"factory": filled, "tokens": size}


def factory_for(factory: str | None, size: int, width: int) -> str:
    """FAISS's index string for `size` states of `width` numbers; `factory` as in `index_stage`."""
    if factory is not None and factory != COMPRESSED:
        chosen = factory
    elif size <= EXACT_UP_TO:
        chosen = "Flat"
    elif factory is None:
        chosen = "IVF{nlist},SQfp16"
    else:
        lists = 2 ** round(np.log2(np.sqrt(size)))  # a quarter of {nlist}: k-means takes most time
        chosen = f"IVF{lists},PQ{{pq}}"
    return fill_factory(chosen, size, width)


class Datastore:
    """Searches the states of the database's tokens.

    Args:
        states: the `token_states` artifact.
        index: its `token_index` artifact.
        nprobe: inverted lists that a query visits.

    Attributes:
        keys: float16 [T, D], the states.
        tokens: int32 [T], the token that followed each state.
        document: int32 [T], ascending.
    """

    def __init__(self, states: Artifact, index: Artifact, nprobe: int) -> None:
        import faiss

        self.keys, self.tokens, self.document = (
            mapped(states.file(f"{name}.npy")) for name in ("keys", "tokens", "document")
        )
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
        first, last = self._rows(document)
        known = np.where(last > first, document, -1)
        for own in np.unique(known):
            mine = np.flatnonzero(known == own)
            distances[mine], rows = self._search(keys[mine], np.array([own]), k)
            tokens[mine] = np.where(rows >= 0, self.tokens[np.maximum(rows, 0)], -1)
        return distances, tokens

    def nearest(
        self, keys: NDArray[np.float32], excluded: NDArray[np.integer], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest states by the index, ranked anew by their exact squared distances.

        Args:
            keys: [Q, D].
            excluded: documents whose states are left out.

        Returns:
            distances [Q, K], ascending, and rows [Q, K] of the states; infinite and -1 in slots
            without a neighbour.
        """
        found = self._search(keys, excluded, k)[1]
        rows = np.sort(found, axis=1)  # equal distances are ranked in the order of the text
        distances = np.full(rows.shape, np.inf, np.float32)
        for start in range(0, len(keys), _RANKED_AT_ONCE):
            part = slice(start, start + _RANKED_AT_ONCE)
            apart = self.keys[np.maximum(rows[part], 0)] - keys[part, None]  # [Q, K, D] float32
            distances[part] = np.einsum("qkd,qkd->qk", apart, apart)
        distances[rows < 0] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")
        return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)

    def _search(
        self, keys: NDArray[np.float32], excluded: NDArray[np.integer], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Distances and rows by the index alone, as `nearest` returns them."""
        import faiss

        settings: dict[str, Any] = {}
        first, last = self._rows(excluded)
        if (last > first).any():
            kept = np.ones(len(self.document), np.bool_)
            for begin, end in zip(first, last, strict=True):
                kept[begin:end] = False
            bits = np.packbits(kept, bitorder="little")
            settings["sel"] = faiss.IDSelectorBitmap(bits)  # pyright: ignore[reportCallIssue]
        if faiss.try_extract_index_ivf(self.index) is not None:
            settings["nprobe"] = self.nprobe
            parameters = faiss.SearchParametersIVF(**settings)
        else:
            parameters = faiss.SearchParameters(**settings)
        distances, rows = self.index.search(np.ascontiguousarray(keys), k, params=parameters)
        return np.where(rows >= 0, distances, np.float32(np.inf)), rows

    def _rows(self, document: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First row of each document, and the row after its last one; equal for an unknown one."""
        first = np.searchsorted(self.document, document)
        return first, np.searchsorted(self.document, document, side="right")
