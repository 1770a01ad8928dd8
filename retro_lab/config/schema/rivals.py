"""`eval.rivals`: other ways to use the same data, and what is tried when each is tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter

from ..errors import UserError, problem
from .setting import setting

RIVALS = ("knn_lm", "ralm", "equal_parameters", "equal_flops", "ngram", "xz")

_MAX_ORDER = 7  # a context and its byte fill a 64-bit key
# What each value of a grid must be, the same in words, and a grid that is.
_GRIDS: dict[str, tuple[Callable[[float], bool], str, str]] = {
    "knn_lm.neighbours": (lambda x: x >= 1, "1 or more", "[64,1024]"),
    "knn_lm.temperatures": (lambda x: 0 < x < inf, "above 0", "[1,10]"),
    "knn_lm.weights": (lambda x: 0 <= x < 1, "in [0, 1)", "[0.1,0.3]"),
    "ralm.strides": (lambda x: x >= 1, "1 or more", "[64]"),
    "ralm.query_lengths": (lambda x: x >= 1, "1 or more", "[32]"),
    "ralm.continuations": (lambda x: x >= 0, "0 or more", "[0,1]"),
    "matched.lr_factors": (lambda x: 0 < x < inf, "above 0", "[1]"),
    "ngram.orders": (lambda x: 0 <= x <= _MAX_ORDER, f"from 0 to {_MAX_ORDER}", "[5,6]"),
    "ngram.discounts": (lambda x: 0 < x <= 1, "in (0, 1]", "[0.5,0.9]"),
    "ngram.own_weights": (lambda x: x >= 1, "1 or more", "[1,3]"),
}


@dataclass
class KnnLmConfig:
    """kNN-LM (Khandelwal et al. 2020); the lists are the grid that validation chooses from.

    Attributes:
        neighbours: nearest training tokens a prediction looks at.
        temperatures: what squared distances are divided by.
        weights: share of the neighbours in the mixture; 0 is the baseline itself.
        factory: FAISS's index string; null is exact search up to 100,000 training tokens and
            an inverted file of half-precision vectors beyond.
        nprobe: lists that an inverted file looks into.
    """

    neighbours: list[int] = setting([16, 64, 256, 1024])
    temperatures: list[float] = setting([0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
    weights: list[float] = setting([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    factory: str | None = None
    nprobe: int = setting(32, at_least=1)


@dataclass
class RalmConfig:
    """In-context RALM (Ram et al. 2023); each stride is a rival of its own.

    Attributes:
        strides: tokens between retrievals; whole divisors of the evaluation's stride.
        query_lengths: last tokens that are searched with; validation chooses.
        continuations: chunks that follow the retrieved one and are prepended with it; validation
            chooses.
        full_from: smaller strides are scored on the subsample of documents only.
    """

    strides: list[int] = setting([64, 16])
    query_lengths: list[int] = setting([16, 32, 64])
    continuations: list[int] = setting([0, 1])
    full_from: int = setting(64, at_least=1)


@dataclass
class MatchedConfig:
    """Plain language models of RETRO's parameters or FLOPs.

    Attributes:
        lr_factors: multiples of the run's learning rate; each is a training of its own, and
            validation chooses.
    """

    lr_factors: list[float] = setting([0.5, 1.0, 2.0])


@dataclass
class NgramConfig:
    """PPM-like n-gram over bytes; the lists are the grid that validation chooses from.

    Attributes:
        orders: bytes of the longest context, at most 7.
        discounts: taken off every count and given to the next shorter context.
        own_weights: how often a byte of the document itself counts, beside one of training text.
    """

    orders: list[int] = setting([3, 4, 5, 6, 7])
    discounts: list[float] = setting([0.5, 0.7, 0.9])
    own_weights: list[int] = setting([1, 3, 10, 30])


@dataclass
class RivalsConfig:
    """Rivals on the same data, database and tokens; every one is tuned on validation alone.

    Attributes:
        which: any of knn_lm, ralm, equal_parameters, equal_flops, ngram and xz; none by default.
        subsample_documents: documents of the split on which costly rivals, and all others too,
            are scored; drawn by eval.seed.
        tuning_tokens: validation documents are drawn until they hold so many tokens.
    """

    which: list[str] = field(default_factory=list)
    subsample_documents: int = setting(10, at_least=1)
    tuning_tokens: int = setting(20_000, at_least=1)
    knn_lm: KnnLmConfig = field(default_factory=KnnLmConfig)
    ralm: RalmConfig = field(default_factory=RalmConfig)
    matched: MatchedConfig = field(default_factory=MatchedConfig)
    ngram: NgramConfig = field(default_factory=NgramConfig)

    def problems(self, prefix: str) -> Iterator[UserError]:
        if not self.which:
            return
        if not _all_differ(self.which) or not set(self.which) <= set(RIVALS):
            yield problem(
                f"{prefix}which",
                self.which,
                f"must be different ones of {', '.join(RIVALS)}",
                f"{prefix}which=[knn_lm,xz]",
            )
        for name, (holds, rule, example) in _GRIDS.items():
            key, grid = f"{prefix}{name}", attrgetter(name)(self)
            if not grid or not all(holds(x) for x in grid) or not _all_differ(grid):
                rule = f"must be different numbers, each {rule}"
                yield problem(key, grid, rule, f"{key}={example}")


def _all_differ(values: list) -> bool:
    return len(set(values)) == len(values)
