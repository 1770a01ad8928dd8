"""Selects the documents of a database and finds equal documents.

Hashes of ids and texts decide, never order or chance: a smaller `database.fraction` or
`database.plant_share` is a subset of a larger one, on every machine.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.schema import RESERVED_NAMES, Half, PlantedDatabaseConfig

from .corpus import SPLITS, Corpus
from .document_names import given_ids

OWN, PLANTED = RESERVED_NAMES
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Part:
    """Documents of one source that are contiguous in a database.

    Attributes:
        name: empty for the run's own.
        source: index of the corpus among the sources; 0 is the run's own.
        documents: int64 [d], their numbers in that corpus, ascending.
        searched: bool [d], whether each is searched.
        distinct: whether documents differ from those with the same text and id, as planted copies
            do.
    """

    name: str
    source: int
    documents: NDArray[np.int64]
    searched: NDArray[np.bool_]
    distinct: bool = False


def own_part(
    corpus: Corpus, splits: Collection[str], fraction: float, whole: Collection[str]
) -> Part:
    """All documents of the run's own corpus; the drawn ones of `splits` are searched.

    Args:
        whole: splits searched completely.
    """
    searched = np.isin(corpus.split, [SPLITS.index(split) for split in splits])
    searched &= _drawn(corpus.ids, fraction) | np.isin(
        corpus.split, [SPLITS.index(s) for s in whole]
    )
    return Part("", 0, np.arange(corpus.num_documents), searched)


def taken_part(name: str, source: int, corpus: Corpus, fraction: float) -> Part:
    """The drawn documents of another corpus."""
    documents = np.flatnonzero(_drawn(corpus.ids, fraction))
    return Part(name, source, documents, np.ones(len(documents), bool))


def planted_part(config: PlantedDatabaseConfig, corpus: Corpus) -> tuple[Part, dict[str, Any]]:
    """Copies of a share of one half of a split, and a record of the planted documents.

    The split's documents are sorted by a hash of their ids and cut in the middle. The first
    `plant_share` of the half, rounded up, are planted.
    """
    ids, documents = corpus.ids, corpus.documents_of(config.plant_split)
    order = documents[np.argsort([_hash("plant", ids[d]) for d in documents], kind="stable")]
    middle = -(-len(order) // 2)
    halves = {Half.first: order[:middle], Half.second: order[middle:]}
    half = halves[config.plant_half]
    count = math.ceil(config.plant_share * len(half) - 1e-9)  # 0.07 * 100 is slightly above 7
    chosen = np.sort(half[:count])

    def names(numbers: NDArray[np.int64]) -> list[str]:
        return [ids[d] for d in np.sort(numbers)]

    record = {
        "split": config.plant_split,
        "half": config.plant_half.name,
        "share": config.plant_share,
        "halves": {which.name: names(numbers) for which, numbers in halves.items()},
        "planted": names(chosen),
    }
    return Part(PLANTED, 0, chosen, np.ones(len(chosen), bool), distinct=True), record


def identities(parts: Sequence[Part], corpora: Sequence[Corpus]) -> NDArray[np.int64]:
    """int64 [D], the first document equal to each one, by default itself.

    Documents in different corpora are equal if they have the same text, or the same id in both
    inputs; equal documents must not read each other. Documents of one corpus differ, as in a search
    of the training split, unless another corpus holds a document equal to both. Planted copies
    always differ.
    """
    counts = [len(part.documents) for part in parts]
    same = np.arange(sum(counts))
    part_of = np.repeat(np.arange(len(parts)), counts)
    linked = ~np.array([part.distinct for part in parts])[part_of]
    if len(set(part_of[linked].tolist())) < 2:
        return same
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    given = [given_ids(corpus) for corpus in corpora]
    named = np.concatenate([given[part.source][part.documents] for part in parts])
    texts, ids = _names(parts, corpora)
    links = []
    for names, link in ((texts, linked), (ids, linked & named)):
        _, group = np.unique(names, return_inverse=True)
        low, high = np.full(len(names), len(parts)), np.full(len(names), -1)
        np.minimum.at(low, group[link], part_of[link])
        np.maximum.at(high, group[link], part_of[link])
        shared = np.flatnonzero((low < high)[group] & link)
        links.append((shared, group[shared] + len(names) * (1 + len(links))))
    left, right = (np.concatenate(ends) for ends in zip(*links, strict=True))
    size = 3 * len(same)
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(size, size))
    _, label = connected_components(graph, directed=False)
    _, first, inverse = np.unique(label[: len(same)], return_index=True, return_inverse=True)
    return first[inverse]


def _names(
    parts: Sequence[Part], corpora: Sequence[Corpus]
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """[D] digests of the texts, and [D] of the ids."""
    texts, ids = [], []
    for part in parts:
        corpus = corpora[part.source]
        for document in part.documents.tolist():
            texts.append(_digest(corpus.raw(document)))
            ids.append(_digest(corpus.ids[document].encode()))
    kind = f"V{_DIGEST_BYTES}"
    return np.frombuffer(b"".join(texts), kind), np.frombuffer(b"".join(ids), kind)


def _drawn(ids: Sequence[str], fraction: float) -> NDArray[np.bool_]:
    if fraction == 1:
        return np.ones(len(ids), bool)
    return np.array([_hash("database", name) < fraction for name in ids], bool)


def _hash(purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on both arguments; independent of the draw of splits."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{name}".encode()).digest()) / 2**256


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
