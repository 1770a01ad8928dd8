"""Rules on chunks, on what is searched, and on what an evaluation reads of both."""

from __future__ import annotations

from collections.abc import Iterator

from .errors import UserError, problem
from .schema import Config, HfTokenizerConfig, NorlundCorpusConfig, Reference, StoredRetrieverConfig


def _chunking(config: Config) -> Iterator[UserError]:
    size, length = config.chunking.chunk_size, config.chunking.sequence_length
    if size < 2:
        return  # reported by its bounds
    if length % size or length < 2 * size:
        fitting = max(2, round(length / size)) * size
        yield problem(
            "chunking.sequence_length",
            length,
            f"must be two or more whole chunks of {size} (chunking.chunk_size)",
            f"chunking.sequence_length={fitting}",
        )
    stride = config.eval.stride
    if stride is not None and (stride % size or not size <= stride <= length):
        yield problem(
            "eval.stride",
            stride,
            f"must be whole chunks of {size}, at most chunking.sequence_length={length}",
            "eval.stride=null (half the sequence length)",
        )


def _stored_neighbours(config: Config) -> Iterator[UserError]:
    if not config.retriever.retrieves:
        return
    evaluation, k_store = config.eval, config.neighbours.k_store
    rule = f"only {k_store} neighbours are stored (neighbours.k_store)"
    if (evaluation.k or 0) > k_store:
        yield problem(
            "eval.k",
            evaluation.k,
            rule,
            f"eval.k={k_store}, or train with a larger neighbours.k_store",
        )
    searched = evaluation.overlap_neighbours
    own = evaluation.reference is Reference.own_neighbours
    if evaluation.leakage and own and searched > k_store:
        yield problem(
            "eval.overlap_neighbours",
            searched,
            rule,
            f"neighbours.k_store={searched}, or eval.overlap_neighbours={k_store}",
        )


def _leak_filter(config: Config) -> Iterator[UserError]:
    """Refuses a filter that could never drop a neighbour."""
    if not config.retriever.retrieves:
        return
    chunking = config.chunking
    compared = min(2, 1 + chunking.continuation_chunks) * chunking.chunk_size
    given = {"neighbours.max_run": config.neighbours.max_run, "eval.max_run": config.eval.max_run}
    for key, run in given.items():
        if run is not None and run > compared:
            yield problem(
                key,
                run,
                f"texts of {compared} tokens are compared, so it would never drop a neighbour",
                f"{key}={max(1, chunking.chunk_size // 2)}, or null to keep all",
            )


def _stored(config: Config) -> Iterator[UserError]:
    if not isinstance(config.retriever, StoredRetrieverConfig):
        return
    if not isinstance(config.corpus, NorlundCorpusConfig):
        yield problem(
            "retriever",
            "stored",
            f"corpus={config.corpus.name} brings no neighbours with it",
            "corpus=norlund corpus.path=data.spec.json, or a retriever that searches",
        )
    elif not config.database.is_training_split:
        yield problem(
            "retriever",
            "stored",
            "the corpus's own neighbours lie in its training split: nothing else is searched",
            "database=train",
        )


def _imported(config: Config) -> Iterator[UserError]:
    """A dataset of tokens needs the tokenizer that made it."""
    corpus, tokenizer = config.corpus, config.tokenizer
    if not isinstance(corpus, NorlundCorpusConfig):
        return
    if not isinstance(tokenizer, HfTokenizerConfig) or corpus.tokenizer != tokenizer.path:
        yield problem(
            "corpus.tokenizer",
            corpus.tokenizer,
            "corpus=norlund holds tokens, so it takes the tokenizer that made them",
            "tokenizer=hf tokenizer.path=t5-base, and corpus.tokenizer left as it is",
        )


def _embedder(config: Config) -> Iterator[UserError]:
    """A pretrained encoder needs a name if the retriever embeds."""
    for name in ("model", "query_model", "key_model"):
        if config.retriever.needs_embeddings and getattr(config.embedder, name, None) == "":
            yield UserError(
                f"embedder.{name} has no value and needs one",
                fix=f"embedder.{name}=<hub name or local folder>, or embedder=minilm",
            )


def _database(config: Config) -> Iterator[UserError]:
    if not config.retriever.retrieves:
        return
    chosen, evaluation = config.database, config.eval
    exact = evaluation.leakage and evaluation.reference is Reference.exact_corpus
    if exact and evaluation.split in chosen.splits and evaluation.split != "train":
        yield problem(
            "database.splits",
            chosen.splits,
            f"every chunk of the {evaluation.split} split stands in the database, so its exact "
            "overlap says nothing (eval.reference=exact_corpus)",
            "eval.reference=own_neighbours, or database=planted, whose copies are counted apart",
        )
    if evaluation.injection.doses:
        yield from _injection(config)


def _injection(config: Config) -> Iterator[UserError]:
    """Doses must be valid shares, and planted text must be separate from the training text."""
    evaluation, doses = config.eval, config.eval.injection.doses
    if not all(0 < dose <= 1 for dose in doses) or len(set(doses)) < len(doses):
        yield problem(
            "eval.injection.doses",
            doses,
            "must be different shares of one half of the documents, each above 0 and at most 1 "
            "(0 is always measured)",
            "eval.injection.doses=[0.01,0.1,0.5]",
        )
    if not evaluation.leakage:
        yield problem(
            "eval.leakage",
            evaluation.leakage,
            "the experiment shows whether r(C) sees a leak, so r(C) must be measured",
            "eval.leakage=true, or eval.injection.doses=[]",
        )
    if evaluation.split == "train":
        yield problem(
            "eval.split",
            evaluation.split,
            "copies of training documents are no leak: they are searched already",
            "eval.split=test",
        )


def _ngram(config: Config) -> Iterator[UserError]:
    ngram, size = config.eval.ngram, config.chunking.chunk_size
    if ngram is not None and ngram > size:
        yield problem(
            "eval.ngram",
            ngram,
            f"no chunk of {size} tokens (chunking.chunk_size) holds so long an n-gram",
            f"eval.ngram={min(8, size)}",
        )


RETRIEVAL_RULES = (
    _chunking,
    _stored_neighbours,
    _leak_filter,
    _stored,
    _imported,
    _embedder,
    _database,
    _ngram,
)
