"""`eval.rivals`: other methods on the same data, and the grids for tuning them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter

from ..errors import UserError, problem
from .setting import setting

RIVALS = (
    *("knn_lm", "ralm", "equal_parameters", "equal_flops", "ngram", "xz"),
    *("dynamic_evaluation", "ensemble", "ttt_neighbours", "intermediate"),
    *("ngram_table", "memory_decoder"),
)
OF_ANY_MODEL = ("ralm", "ngram", "xz", "dynamic_evaluation", "ttt_neighbours")
"""Rivals that also stand beside a pretrained backbone."""
OF_RETRIEVAL = ("equal_parameters", "equal_flops", "ensemble", "ttt_neighbours", "ngram_table")
"""Rivals that need a run with retrieval: its size, its plain model or its search."""
ALL = "all"

_MAX_ORDER = 7  # a context and its byte fill a 64-bit key
# For each grid: the test of a value, the rule in words, and a valid example.
_GRIDS: dict[str, tuple[Callable[[float], bool], str, str]] = {
    "knn_lm.neighbours": (lambda x: x >= 1, "1 or more", "[64,1024]"),
    "knn_lm.temperatures": (lambda x: 0 < x < inf, "above 0", "[1,10]"),
    "knn_lm.weights": (lambda x: 0 <= x < 1, "in [0, 1)", "[0.1,0.3]"),
    "ralm.strides": (lambda x: x >= 1, "1 or more", "[64]"),
    "ralm.query_lengths": (lambda x: x >= 1, "1 or more", "[32]"),
    "ralm.continuations": (lambda x: x >= 0, "0 or more", "[0,1]"),
    "matched.lr_factors": (lambda x: 0 < x < inf, "above 0", "[1]"),
    "dynamic.rates": (lambda x: 0 <= x < inf, "0 or more", "[0,1e-3]"),
    "ensemble.weights": (lambda x: 0 <= x < 1, "in [0, 1)", "[0.3,0.5]"),
    "ttt.rates": (lambda x: 0 <= x < inf, "0 or more", "[0,1e-3]"),
    "ttt.neighbours": (lambda x: x >= 1, "1 or more", "[2,8]"),
    "memory_decoder.rate_factors": (lambda x: 0 < x < inf, "above 0", "[0.5]"),
    "memory_decoder.weights": (lambda x: 0 <= x < 1, "in [0, 1)", "[0.1,0.3]"),
    "intermediate.weights": (lambda x: 0 <= x < 1, "in [0, 1)", "[0.1,0.3]"),
    "ngram.orders": (lambda x: 0 <= x <= _MAX_ORDER, f"from 0 to {_MAX_ORDER}", "[5,6]"),
    "ngram.discounts": (lambda x: 0 < x <= 1, "in (0, 1]", "[0.5,0.9]"),
    "ngram.own_weights": (lambda x: x >= 1, "1 or more", "[1,3]"),
}


@dataclass
class KnnLmConfig:
    """kNN-LM (Khandelwal et al. 2020); the lists are the grid that validation chooses from.

    Attributes:
        neighbours: number of nearest training tokens for a prediction.
        temperatures: divisors of squared distances.
        weights: share of the neighbours in the mixture; 0 is the baseline itself.
        factory: FAISS's index string; null is exact search up to 100,000 training tokens and
            an inverted file of half-precision vectors beyond.
        nprobe: lists of an inverted file that a query visits.
    """

    neighbours: list[int] = setting([16, 64, 256, 1024])
    temperatures: list[float] = setting([0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
    weights: list[float] = setting([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    factory: str | None = None
    nprobe: int = setting(32, at_least=1)


@dataclass
class RalmConfig:
    """In-context RALM (Ram et al. 2023); each stride is a separate rival.

    Attributes:
        strides: tokens between retrievals; whole divisors of the evaluation's stride.
        query_lengths: number of last tokens that form the query; validation chooses.
        continuations: chunks after the retrieved one that are prepended too; validation chooses.
        full_from: smallest stride scored on all documents; smaller ones use the subsample.
    """

    strides: list[int] = setting([64, 16])
    query_lengths: list[int] = setting([16, 32, 64])
    continuations: list[int] = setting([0, 1])
    full_from: int = setting(64, at_least=1)


@dataclass
class MatchedConfig:
    """Plain language models with RETRO's parameters or FLOPs, and one with an n-gram table.

    Attributes:
        lr_factors: multiples of the run's learning rate, each trained separately; validation
            chooses.
    """

    lr_factors: list[float] = setting([0.5, 1.0, 2.0])


@dataclass
class NgramConfig:
    """PPM-like n-gram over bytes; the lists are the grid that validation chooses from.

    Attributes:
        orders: bytes of the longest context, at most 7.
        discounts: amount taken off every count and given to the next shorter context.
        own_weights: weight of a byte of the document itself, relative to a byte of training text.
    """

    orders: list[int] = setting([3, 4, 5, 6, 7])
    discounts: list[float] = setting([0.5, 0.7, 0.9])
    own_weights: list[int] = setting([1, 3, 10, 30])


@dataclass
class DynamicConfig:
    """Dynamic evaluation (Krause et al. 2018): the baseline learns from the document so far.

    Attributes:
        segment: tokens scored before each step on the weights; a whole divisor of the
            evaluation's stride.
        rates: typical change of a weight in a step; 0 is the baseline itself; validation chooses.
    """

    segment: int = setting(64, at_least=1)
    rates: list[float] = setting([0.0, 3e-5, 1e-4, 3e-4, 1e-3])


@dataclass
class EnsembleConfig:
    """The run's plain model and one of the next seed, mixed.

    Attributes:
        weights: share of the second model; validation chooses.
    """

    weights: list[float] = setting([0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


@dataclass
class TttConfig:
    """Test-time training on neighbours (Hardt & Sun 2023), for each chunk from anew.

    Attributes:
        neighbours: number of neighbours, a step each; validation chooses.
        rates: typical change of a weight in a step; 0 is the baseline itself; validation chooses.
    """

    neighbours: list[int] = setting([2, 8])
    rates: list[float] = setting([0.0, 1e-4, 3e-4, 1e-3])


@dataclass
class IntermediateConfig:
    """The baseline mixed with what its output layer reads from an earlier layer.

    Attributes:
        weights: share of the earlier layer; 0 is the baseline itself; validation chooses this and
            the layer.
    """

    weights: list[float] = setting([0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5])


@dataclass
class MemoryDecoderConfig:
    """A small decoder that imitates kNN-LM's neighbours on the training text (Memory Decoder 2025).

    Attributes:
        layers: of the baseline that the decoder begins as, from the first on; at most all of them.
        tokens: of the training text that it imitates the neighbours of.
        epochs: passes over these.
        imitation: share of the neighbours' distribution in what is learned; the rest is the text.
        rate_factors: multiples of the run's learning rate, each trained separately; validation
            chooses.
        weights: share of the decoder in the mixture; 0 is the baseline itself; validation chooses.
    """

    layers: int = setting(2, at_least=1)
    tokens: int = setting(200_000, at_least=1)
    epochs: int = setting(2, at_least=1)
    imitation: float = setting(0.5, at_least=0, at_most=1)
    rate_factors: list[float] = setting([0.1, 0.5])
    weights: list[float] = setting([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


@dataclass
class RivalsConfig:
    """Rivals on the same data, database and tokens, each tuned on validation only.

    Attributes:
        which: any of knn_lm, ralm, equal_parameters, equal_flops, ngram, xz, dynamic_evaluation,
            ensemble, ttt_neighbours, intermediate, ngram_table and memory_decoder; `[all]` is all
            that apply; none by default.
        subsample_documents: documents of the split, drawn by eval.seed, on which costly rivals (and
            all others too) are scored.
        tuning_tokens: size of the tuning sample of validation documents, in tokens.
    """

    which: list[str] = field(default_factory=list)
    subsample_documents: int = setting(10, at_least=1)
    tuning_tokens: int = setting(20_000, at_least=1)
    knn_lm: KnnLmConfig = field(default_factory=KnnLmConfig)
    ralm: RalmConfig = field(default_factory=RalmConfig)
    matched: MatchedConfig = field(default_factory=MatchedConfig)
    ngram: NgramConfig = field(default_factory=NgramConfig)
    dynamic: DynamicConfig = field(default_factory=DynamicConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    ttt: TttConfig = field(default_factory=TttConfig)
    intermediate: IntermediateConfig = field(default_factory=IntermediateConfig)
    memory_decoder: MemoryDecoderConfig = field(default_factory=MemoryDecoderConfig)

    def names(self, applicable: Sequence[str] = RIVALS) -> list[str]:
        """The requested rivals; `[all]` is those that apply."""
        return list(applicable) if self.which == [ALL] else self.which

    def problems(self, prefix: str) -> Iterator[UserError]:
        if not self.which:
            return
        names = self.names()
        if not _all_differ(names) or not set(names) <= set(RIVALS):
            yield problem(
                f"{prefix}which",
                self.which,
                f"must be different ones of {', '.join(RIVALS)}, or {ALL} alone",
                f"{prefix}which=[knn_lm,xz]",
            )
        for name, (holds, rule, example) in _GRIDS.items():
            key, grid = f"{prefix}{name}", attrgetter(name)(self)
            if not grid or not all(holds(x) for x in grid) or not _all_differ(grid):
                rule = f"must be different numbers, each {rule}"
                yield problem(key, grid, rule, f"{key}={example}")


def _all_differ(values: list) -> bool:
    return len(set(values)) == len(values)
