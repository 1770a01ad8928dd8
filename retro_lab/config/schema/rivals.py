"""`eval.rivals`: other ways to use the same data, and what is tried when each is tuned."""

from __future__ import annotations

from dataclasses import dataclass, field

RIVALS = ("knn_lm", "ralm", "equal_parameters", "equal_flops", "ngram", "xz")


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

    neighbours: list[int] = field(default_factory=lambda: [16, 64, 256, 1024])
    temperatures: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
    weights: list[float] = field(
        default_factory=lambda: [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    )
    factory: str | None = None
    nprobe: int = 32


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

    strides: list[int] = field(default_factory=lambda: [64, 16])
    query_lengths: list[int] = field(default_factory=lambda: [16, 32, 64])
    continuations: list[int] = field(default_factory=lambda: [0, 1])
    full_from: int = 64


@dataclass
class MatchedConfig:
    """Plain language models of RETRO's parameters or FLOPs.

    Attributes:
        lr_factors: multiples of the run's learning rate; each is a training of its own, and
            validation chooses.
    """

    lr_factors: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])


@dataclass
class NgramConfig:
    """PPM-like n-gram over bytes; the lists are the grid that validation chooses from.

    Attributes:
        orders: bytes of the longest context, at most 7.
        discounts: taken off every count and given to the next shorter context.
        own_weights: how often a byte of the document itself counts, beside one of training text.
    """

    orders: list[int] = field(default_factory=lambda: [3, 4, 5, 6, 7])
    discounts: list[float] = field(default_factory=lambda: [0.5, 0.7, 0.9])
    own_weights: list[int] = field(default_factory=lambda: [1, 3, 10, 30])


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
    subsample_documents: int = 10
    tuning_tokens: int = 20_000
    knn_lm: KnnLmConfig = field(default_factory=KnnLmConfig)
    ralm: RalmConfig = field(default_factory=RalmConfig)
    matched: MatchedConfig = field(default_factory=MatchedConfig)
    ngram: NgramConfig = field(default_factory=NgramConfig)
