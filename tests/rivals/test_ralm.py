"""Contract: in-context RALM scores every token once, from the baseline's own context when nothing
is found, within the baseline's window, and never looks ahead or into the own document."""

from __future__ import annotations

import numpy as np
import pytest
from rival_text import SIZE, WINDOW, small_model, small_store, subset_of

from retro_lab.config.schema import Bm25RetrieverConfig
from retro_lab.evaluation.compressors.outcome import Tuning, chunk_sums
from retro_lab.retrieval.base import text_tokens
from retro_lab.retrieval.search.bm25 import Bm25Retriever
from retro_lab.rivals import ralm
from retro_lab.rivals.ralm import Setting
from retro_lab.rivals.states import plain_nats, token_nats

BATCH = 3


def bm25(store, splits=("train",)) -> Bm25Retriever:
    ids = np.sort(np.concatenate([store.chunks_of(split) for split in splits]))
    retriever = Bm25Retriever(Bm25RetrieverConfig(name="bm25"))
    tokens = text_tokens(np.asarray(store.tokens[ids]), store.pad_id, store.boundary_id)
    retriever.build(ids, tokens, None)
    return retriever


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_every_token_is_in_one_block_with_the_baselines_context(stride: int) -> None:
    subset = subset_of(small_store(), "test")
    blocks = ralm.blocks_of(subset, stride)
    places = [(b.document, p) for b in blocks for p in range(b.start, b.stop)]
    expected = [
        (d, p) for d in subset.documents.tolist() for p in range(1, len(subset.tokens_of(d)))
    ]
    assert places == expected
    data, windows = subset.windows()
    window = data.windows.take(windows)
    for block in blocks:
        first = subset.first_chunk(block.document)
        starts = (data.order[window.start_chunk] - first) * SIZE
        mine = data.store.document[data.order[window.start_chunk]] == block.document
        scored_from = starts + window.first_target + 1
        number = np.flatnonzero(mine & (scored_from <= block.start))[-1]
        assert block.context == starts[number]
        assert block.stop - 1 <= block.context + WINDOW


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_with_empty_passages_it_is_the_baseline(stride: int) -> None:
    model, subset = small_model(), subset_of(small_store(), "test")
    blocks = ralm.blocks_of(subset, stride)
    totals = np.zeros(subset.store.num_chunks)
    for i, nats in ralm.block_nats(model, subset, blocks, [np.empty(0, int)] * len(blocks), BATCH):
        chunk = subset.first_chunk(blocks[i].document) + (
            np.arange(blocks[i].start, blocks[i].stop) // SIZE
        )
        np.add.at(totals, chunk, nats)
    assert np.allclose(totals[subset.rows], plain_nats(model, subset, BATCH), rtol=1e-5)


def test_a_found_passage_is_read_and_the_window_does_not_grow() -> None:
    model, subset = small_model(), subset_of(small_store(), "test")
    setting, retriever = Setting(4, 1), bm25(subset.store)
    lengths = []
    hook = model.embedding.register_forward_pre_hook(lambda _, x: lengths.append(x[0].shape[1]))
    nats, read = ralm.nats_by_token(model, retriever, subset, 4, setting, BATCH, "test")
    hook.remove()
    assert max(lengths) <= WINDOW
    assert subset.tokens.sum() < read <= len(ralm.blocks_of(subset, 4)) * WINDOW
    assert not np.allclose(nats, token_nats(model, subset, BATCH), rtol=1e-3)


def test_a_block_is_scored_as_passage_and_latest_context() -> None:
    """One block by hand: 8 passage tokens and the 8 latest of 16 predict its last token."""
    import torch

    model, subset = small_model(), subset_of(small_store(), "test")
    document = int(subset.documents[0])
    block = next(b for b in ralm.blocks_of(subset, 4) if b.document == document and b.start == 13)
    passage = np.arange(8)
    (_, nats), *_ = ralm.block_nats(model, subset, [block], [passage], BATCH)
    text = subset.tokens_of(document)
    ids = np.concatenate([passage, text[8:16]])
    logits = model(torch.from_numpy(ids)[None])[0].log_softmax(-1).detach().numpy()
    expected = [-logits[p - 1, text[p]] for p in range(13, 17)]
    assert np.allclose(nats, expected, rtol=1e-4)


def test_later_text_changes_no_query_and_no_earlier_score() -> None:
    model = small_model()
    subset = subset_of(small_store(), "test")
    document = int(subset.documents[0])
    retriever, setting = bm25(subset.store), Setting(8, 1)
    before, _ = ralm.nats_by_token(model, retriever, subset, 4, setting, BATCH, "test")
    changed = small_store()
    last = changed.first_chunk[document] + 5
    changed.tokens[last : changed.first_chunk[document + 1]] = 7
    other = subset_of(changed, "test")
    after, _ = ralm.nats_by_token(model, retriever, other, 4, setting, BATCH, "test")
    earlier = subset.rows < last
    before, after = chunk_sums(subset, before), chunk_sums(other, after)
    assert np.allclose(before[earlier], after[earlier], rtol=1e-5)
    assert not np.allclose(before[~earlier], after[~earlier], rtol=1e-3)


def test_the_own_document_is_never_retrieved() -> None:
    """The database holds the queries' own chunks, which would match best."""
    store = small_store()
    retriever = bm25(store, ("train", "validation", "test"))
    subset = subset_of(store, "train")
    blocks = ralm.blocks_of(subset, 4)
    ids = ralm.retrieve(retriever, subset, blocks, 8).ids[:, 0]
    found = ids >= 0
    assert found.sum() > 20
    own = np.array([block.document for block in blocks])
    assert (store.document[ids[found]] != own[found]).all()
    assert not found[[b.start == 1 for b in blocks]].any(), "a boundary is no query"


def test_the_query_is_the_text_just_before_the_block() -> None:
    subset = subset_of(small_store(), "test")
    retriever, blocks, asked = bm25(subset.store), ralm.blocks_of(subset, 4), []
    search = retriever.candidates

    def watched(queries, k):
        asked.append(queries.tokens)
        return search(queries, k)

    retriever.candidates = watched
    ralm.retrieve(retriever, subset, blocks, 6)
    for block, query in zip(blocks, asked[0], strict=True):
        before = subset.tokens_of(block.document)[max(1, block.start - 6) : block.start]
        assert query[query >= 0].tolist() == before.tolist()


def test_passages_hold_text_alone_and_their_continuation() -> None:
    subset = subset_of(small_store(), "train")
    store = subset.store
    first, last = int(store.first_chunk[1]), int(store.first_chunk[2]) - 1  # 9 tokens: 4, 4, 1
    whole, end, none = ralm.passages(subset, np.array([first, last, -1]), 1)
    assert np.array_equal(whole, subset.tokens_of(1)[1:8])
    assert np.array_equal(end, subset.tokens_of(1)[8:])
    assert len(none) == 0


def test_tuning_chooses_the_best_and_reads_no_test_text() -> None:
    model, store = small_model(), small_store()
    retriever = bm25(store)
    store.tokens[store.chunks_of("test")] = 60_000  # no embedding has this token
    subset = subset_of(store, "validation")
    tuning = ralm.tune(model, retriever, subset, 4, [2, 8], [0, 1], BATCH)
    assert len(tuning.trials) == 4
    best = min(tuning.trials, key=lambda trial: trial["bits_per_byte"])
    assert tuning.chosen == {n: best[n] for n in ("query_length", "continuation")}
    outcome = ralm.score(model, retriever, subset, 4, Tuning(tuning.chosen), BATCH)
    assert outcome.chunk_nats is not None
    bits = outcome.chunk_nats.sum() / np.log(2) / subset.bytes.sum()
    assert bits == pytest.approx(best["bits_per_byte"], abs=1e-5)
