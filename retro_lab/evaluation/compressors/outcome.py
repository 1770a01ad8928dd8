"""The outcome of a rival: nats by chunk or document, cost and tuning; kept in the stage store."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.store import Artifact, ArtifactStore, Stage, Workspace

from .subset import Subset

VERSION = 1
STAGE = "rival"


@dataclass(frozen=True)
class Tuning:
    """How a rival was tuned.

    Attributes:
        chosen: the settings with the fewest bits per byte.
        trials: every setting tried, with its `bits_per_byte` on the tuning documents, None where
            it was not finite.
        seconds: time spent on tuning.
    """

    chosen: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """A rival's scores on a `Subset` of S chunks and D documents.

    Attributes:
        document_nats: float64 [D].
        chunk_nats: float64 [S]; None if the rival only scores whole documents.
        tuning: how it was tuned, on the validation split.
        seconds: time of scoring, building datastores included.
        parameters: learned parameters of its models; None for counts and compressors.
        datastore_bytes: size of its datastore on disk.
        facts: further details for the record.
        token_nats: float64 [T], of each scored token in corpus order; None if they were not kept.
    """

    document_nats: NDArray[np.float64]
    chunk_nats: NDArray[np.float64] | None
    tuning: Tuning
    seconds: float
    parameters: int | None = None
    datastore_bytes: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    token_nats: NDArray[np.float64] | None = None

    @classmethod
    def by_token(cls, subset: Subset, token_nats: NDArray[np.float64], **rest: Any) -> Outcome:
        """Builds an outcome from the nats of each token; chunks and documents get their sums."""
        return cls.by_chunk(subset, chunk_sums(subset, token_nats), token_nats=token_nats, **rest)

    @classmethod
    def by_chunk(cls, subset: Subset, chunk_nats: NDArray[np.float64], **rest: Any) -> Outcome:
        """Builds an outcome from the nats of each chunk; documents get their sums."""
        place = np.searchsorted(subset.documents, subset.document)
        sums = np.bincount(place, chunk_nats, len(subset.documents))
        return cls(sums.astype(np.float64), chunk_nats, **rest)


def chunk_sums(subset: Subset, token_nats: NDArray[np.float64]) -> NDArray[np.float64]:
    """[S] nats of the subset's chunks, from those of its scored tokens [T] in corpus order."""
    chunk = np.repeat(np.arange(len(subset.tokens)), subset.tokens)
    return np.bincount(chunk, token_nats, len(subset.tokens)).astype(np.float64)


def bits_per_byte(subset: Subset, chunk_nats: NDArray[np.float64]) -> float:
    """Bits per byte of `chunk_nats` [S] over all chunks of the subset."""
    return math.fsum(chunk_nats) / math.log(2) / int(subset.bytes.sum())


def lowest(tried: Iterable[tuple[dict[str, Any], float]], started: float) -> Tuning:
    """The tuning that chooses the setting with the fewest bits per byte, the first of equals.

    Args:
        tried: settings and their bits per byte; those that are not finite are recorded as None.
        started: `time.perf_counter()` at the start of tuning.

    Raises:
        UserError: no setting has a finite figure.
    """
    tried = list(tried)
    trials = [
        settings | {"bits_per_byte": round(bits, 6) if math.isfinite(bits) else None}
        for settings, bits in tried
    ]
    finite = [(settings, bits) for settings, bits in tried if math.isfinite(bits)]
    if not finite:
        raise UserError(
            f"none of the settings of a rival has a finite score: {trials}",
            fix="give its grid in eval.rivals smaller values",
        )
    chosen, _ = min(finite, key=lambda trial: round(trial[1], 6))  # as it is recorded
    return Tuning(chosen, trials, round(time.perf_counter() - started, 1))


def stored_or_computed(
    store: ArtifactStore,
    name: str,
    chunks: Artifact | Stage,
    subset: Subset,
    tuned_on: Subset,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    score: Callable[[], Outcome],
) -> Outcome:
    """A rival's outcome from the stage store, or from `score`, which is then stored.

    Args:
        chunks: the stage of the chunks.
        settings: everything that the outcome depends on, apart from text and weights.
        inputs: digests of model weights.
    """
    fields = {
        "rival": name,
        "settings": dict(settings),
        "documents": subset.documents.tolist(),
        "tuned_on": tuned_on.documents.tolist(),
        "window": subset.chunking.sequence_length,
        "stride": subset.stride,
    }
    stage = Stage(STAGE, VERSION, fields, {"chunks": chunks}, inputs)
    return _open(store.build(stage, lambda workspace: _write(score(), workspace)))


def _write(outcome: Outcome, workspace: Workspace) -> Mapping[str, Any]:
    np.save(workspace.path / "document_nats.npy", outcome.document_nats)
    if outcome.chunk_nats is not None:
        np.save(workspace.path / "chunk_nats.npy", outcome.chunk_nats)
    if outcome.token_nats is not None:
        np.save(workspace.path / "token_nats.npy", outcome.token_nats)
    rest = ("seconds", "parameters", "datastore_bytes", "facts")
    return {"tuning": asdict(outcome.tuning)} | {name: getattr(outcome, name) for name in rest}


def _open(artifact: Artifact) -> Outcome:
    stats = dict(artifact.stats)
    tuning = Tuning(**stats.pop("tuning"))
    names = ("document_nats", "chunk_nats", "token_nats")
    return Outcome(tuning=tuning, **{name: _array(artifact, name) for name in names}, **stats)


def _array(artifact: Artifact, name: str) -> Any:
    """An array of the outcome, or None if it was not kept."""
    file = f"{name}.npy"
    kept = file in artifact.manifest["files"]
    return np.load(artifact.file(file), allow_pickle=False) if kept else None
