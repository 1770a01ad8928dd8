"""Group `eval`: what is measured after training, and by `evaluate.py run=...`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from .chunking import ChunkingConfig
from .neighbours import NeighboursConfig
from .rivals import RivalsConfig


class Reference(Enum):
    """Whose text counts as leaked: a chunk's own neighbours (RETRO, section 2.6), the neighbours
    that the model read, or all text of the training split, with no retriever between.
    """

    own_neighbours = "own_neighbours"
    seen_neighbours = "seen_neighbours"
    exact_corpus = "exact_corpus"


@dataclass
class InjectionConfig:
    """A leak of known size: copies of the evaluated split's documents, planted in what is searched.

    Attributes:
        doses: shares of one half of the documents, each an evaluation of its own; 0, nothing
            planted, is always measured with them. No experiment by default.
    """

    doses: list[float] = field(default_factory=list)


@dataclass
class EvalConfig:
    """What is measured: scores, and one switch a part; `eval=all` turns every part on.

    Attributes:
        name: the option's name.
        split: train, validation or test.
        stride: tokens between evaluation windows; a multiple of the chunk size, at most the
            sequence length; null takes half of it, rounded down to whole chunks.
        batch_size: windows a forward pass.
        k: neighbours a scored chunk reads; null takes as many as in training (`neighbours.k`).
        random: also score with random neighbours.
        shuffled: also score with the run's own neighbours, dealt to chunks of other documents.
        oracle: also score with the longest overlap with the text to be predicted: an upper bound.
        max_run: also score with the next candidate in place of each neighbour that shares a run of
            this many tokens or more with the chunk and the next one, as `neighbours.max_run` has it
            in training too; if both are set the smaller counts. Null leaves the score out.
        without_pointer: also score RETRO[ON] with its pointer read-out switched off, which shows
            how much of a gain is the pointer's; a run without one has no such score.
        tokens: also write tokens.parquet, a row a scored token.
        words: also give perplexity a word, exp(nats / words), words being what white space
            parts and line ends, as papers on WikiText count them.
        leakage: also compute r(C) and bpb(alpha).
        reference: whose text counts as leaked.
        overlap_neighbours: neighbours searched for overlap (the paper takes 10).
        ngram: tokens of the n-grams by which chunks are also compared with the neighbours read,
            for comparison with other papers; null leaves these columns out.
        alphas: upper bounds on r(C), each a share of the chunk.
        pages: documents at each end, of greatest and smallest gain, that inspect.html shows;
            0 writes no page; the page is made from tokens.parquet, which is written with it.
        bootstrap_samples: resamples of documents behind each interval.
        confidence: coverage of the intervals.
        seed: of the bootstrap and of random and shuffled neighbours.
        rivals: what else is trained and scored on the same tokens; none by default.
        injection: whether the figures see a leak that was planted, and how they do.
    """

    name: str = "leakage"
    split: str = "test"
    stride: int | None = None
    batch_size: int = 16
    k: int | None = None
    random: bool = True
    shuffled: bool = False
    oracle: bool = False
    max_run: int | None = None
    without_pointer: bool = False
    tokens: bool = False
    words: bool = False
    leakage: bool = True
    reference: Reference = Reference.own_neighbours
    overlap_neighbours: int = 10
    ngram: int | None = None
    pages: int = 0
    alphas: list[float] = field(
        default_factory=lambda: [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]
    )
    bootstrap_samples: int = 2000
    confidence: float = 0.95
    seed: int = 0
    rivals: RivalsConfig = field(default_factory=RivalsConfig)
    injection: InjectionConfig = field(default_factory=InjectionConfig)


def resolve_k(evaluation: EvalConfig, neighbours: NeighboursConfig) -> int:
    """Neighbours that a scored chunk reads, the default of null filled in."""
    return neighbours.k if evaluation.k is None else evaluation.k


def resolve_max_run(evaluation: EvalConfig, neighbours: NeighboursConfig) -> int | None:
    """Shortest run that is replaced in RETRO[filtered], the stricter of its own and the run's."""
    if evaluation.max_run is None or neighbours.max_run is None:
        return evaluation.max_run
    return min(evaluation.max_run, neighbours.max_run)


def wants_tokens(evaluation: EvalConfig) -> bool:
    """Whether tokens.parquet is written: on request, and for the pages that are made from it."""
    return evaluation.tokens or evaluation.pages > 0


def resolve_stride(evaluation: EvalConfig, chunking: ChunkingConfig) -> int:
    """Tokens between evaluation windows, the default of null filled in."""
    if evaluation.stride is not None:
        return evaluation.stride
    num_chunks = chunking.sequence_length // chunking.chunk_size
    return max(1, num_chunks // 2) * chunking.chunk_size
