"""The experiments of docs/experiments.md: what varies, over which values, and what is drawn.

A point is a run, by overrides of train.py, and an evaluation of it, by overrides of evaluate.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Curve = Mapping[str, float]

QUIET = ("memory=none", "eval.random=false")  # no memory, no control: a third of the time
CONTROLLED = ("memory=none",)
MEMORY = ("memory=suffix_topic", "eval.random=false")


@dataclass(frozen=True)
class Point:
    """One run and one evaluation of it.

    Attributes:
        train: overrides of train.py; the default run has none.
        evaluate: overrides of evaluate.py, beside `eval=exact`.
    """

    train: Sequence[str] = ()
    evaluate: Sequence[str] = QUIET


@dataclass(frozen=True)
class Experiment:
    """A row of points, of which each is drawn as a difference from the plain model.

    Attributes:
        points: by what stands at the axis; numbers make an axis of numbers.
        axis: what the values are.
        shown: the conditions drawn.
        seeds: of training; figures are means over them.
        published: the experiment in a paper, by its own values: bits per byte less those of the
            model without retrieval.
        source: of `published`.
    """

    points: Mapping[str, Point]
    axis: str
    shown: Sequence[str] = ("on",)
    seeds: Sequence[int] = (1,)
    published: Curve = field(default_factory=dict)
    source: str = ""

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(value.replace(".", "", 1).isdigit() for value in self.points)


_NANO = ("model=nano",)
_SHARES = (0.05, 0.1, 0.25, 0.5, 1)
_PAPER_172M = "RETRO, 172M on C4"
_TABLE_13 = "RETRO, Table 13"

EXPERIMENTS = {
    "neighbours": Experiment(
        {f"{k}": Point(evaluate=(f"eval.k={k}", *QUIET)) for k in (1, 2, 4, 8, 16)},
        "neighbours read at evaluation (trained with 2)",
        seeds=(1, 2),
        published={"1": -0.14, "2": -0.15, "4": -0.16, "8": -0.16, "16": -0.16, "40": -0.15}
        | {"60": -0.14, "80": -0.13},
        source=_PAPER_172M,
    ),
    "database": Experiment(
        {
            f"{share:g}": Point(
                evaluate=("database=train", f"database.fraction={share:g}", *MEMORY)
            )
            for share in _SHARES
        },
        "share of the training documents that is searched",
        shown=("on", "plain_memory"),
        seeds=(1, 2),
        published={"4": -0.01, "18": -0.02, "36": -0.02, "90": -0.03, "180": -0.04}
        | {"360": -0.06, "900": -0.10, "1750": -0.16},
        source=f"{_PAPER_172M}, by billion tokens",
    ),
    "added": Experiment(
        {
            "half": Point(("database.fraction=0.5",)),
            "half, then all": Point(
                ("database.fraction=0.5",), ("database=train", "database.fraction=1", *QUIET)
            ),
            "all": Point(),
        },
        "documents searched: in training, then in evaluation",
        seeds=(1, 2),
    ),
    "training": Experiment(
        {
            f"{steps}": Point(
                (*_NANO, f"schedule.steps={steps}", f"recipe.steps={steps // 5}"), MEMORY
            )
            for steps in (100, 200, 400, 800, 1600, 3200)
        },
        "steps of the baseline; RETRO and plain train for a fifth more",
        shown=("on", "plain_memory"),
    ),
    "size": Experiment(
        {name: Point((f"model={name}",)) for name in ("nano", "tiny")},
        "size of the model",
        seeds=(1, 2),
        published={"172M": -0.16, "425M": -0.15, "1.5B": -0.13, "7.5B": -0.12},
        source="RETRO on C4, Table 14",
    ),
    "value": Experiment(
        {
            "neighbour": Point(("model.value=neighbour",)),
            "continuation": Point(("model.value=continuation",)),
            "both": Point(),
        },
        "part of a retrieved text that is read",
        seeds=(1, 2),
        published={"neighbour": -0.037, "continuation": -0.092, "both": -0.165},
        source=_TABLE_13,
    ),
    "reading": Experiment(
        {
            "as it is (CCA in layer 1)": Point(_NANO),
            "no query in the encoder": Point((*_NANO, "model.encoder.cca_layers=[]")),
            "no positions in CCA": Point((*_NANO, "model.cca_positions=false")),
            "CCA in layer 2": Point((*_NANO, "cca=last")),
            "CCA in all layers": Point((*_NANO, "cca=all")),
            "no pointer": Point((*_NANO, "recipe.pointer=false")),
            "noise on neighbours": Point((*_NANO, "model.neighbour_noise=0.2")),
        },
        "how neighbours are read",
        seeds=(1, 2),
        published={
            "as it is (CCA in layer 1)": -0.165,
            "no query in the encoder": -0.158,
            "no positions in CCA": -0.161,
            "CCA in layer 2": -0.156,
            "CCA in all layers": -0.127,
        },
        source=_TABLE_13,
    ),
    "retrievers": Experiment(
        {
            name: Point((f"retriever={name}",))
            for name in ("random", "lda", "tfidf", "bm25", "faiss_flat", "hybrid", "oracle")
        },
        "retriever, in training and evaluation",
        seeds=(1, 2),
    ),
    "chunks": Experiment(
        {
            f"{m}": Point((*_NANO, f"chunking.chunk_size={m}"), CONTROLLED)
            for m in (16, 32, 64, 128)
        },
        "tokens in a chunk",
        shown=("on", "random"),
        seeds=(1, 2),
    ),
    "recall": Experiment(
        {
            f"{probed}": Point(
                (*_NANO, "retriever=faiss_ivf", "retriever.nlist=128", f"retriever.nprobe={probed}")
            )
            for probed in (1, 4, 16, 128)
        },
        "lists of the index that a search visits, of 128",
        seeds=(1, 2),
    ),
}
