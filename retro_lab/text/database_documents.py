"""Which documents a database takes in, and which of them are the same document.

Everything is decided by hashes of ids and of texts, never by order or by chance: a smaller
`database.fraction` or `database.plant_share` is a part of a larger one, on every machine.
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
    """Documents of one source that lie together in a database.

    Attributes:
        name: empty for the run's own.
        source: place of its corpus among the sources; 0 is the run's own.
        documents: int64 [d], their numbers in that corpus, ascending.
        searched: bool [d], which of them are searched.
        distinct: each is another document than the one with its text and id: a planted copy.
    """

    name: str
    source: int
    documents: NDArray[np.int64]
    searched: NDArray[np.bool_]
    distinct: bool = False


def own_part(
    corpus: Corpus, splits: Collection[str], fraction: float, whole: Collection[str]
) -> Part:
    """The run's own corpus: all documents are there, those of `splits` that are drawn are searched.

    Args:
        whole: splits that are searched whatever is drawn.
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
    """Copies of a share of one half of a split, and a record of what was planted.

    The split's documents are ordered by a hash of their ids and cut in the middle; the first ones
    of the half are planted, `plant_share` of them rounded up.
    """
    ids, documents = corpus.ids, corpus.documents_of(config.plant_split)
    order = documents[np.argsort([_hash("plant", ids[d]) for d in documents], kind="stable")]
    middle = -(-len(order) // 2)
    halves = {Half.first: order[:middle], Half.second: order[middle:]}
    half = halves[config.plant_half]
    count = math.ceil(config.plant_share * len(half) - 1e-9)  # 0.07 * 100 is a little above 7
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
    """[D] the first document that each is the same as: itself, unless another corpus has it too.

    An exact copy in another corpus is the same document, so that neither reads the other; so is a
    document of the same id, if both brought it with them. Documents of one corpus stay apart, as
    they do when the training split is searched, unless another corpus has them both; planted copies
    always do.
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
    """[D] digests of texts, and [D] of ids."""
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
    """A number in [0, 1) that depends on both alone; not the one that deals documents to splits."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{name}".encode()).digest()) / 2**256


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
