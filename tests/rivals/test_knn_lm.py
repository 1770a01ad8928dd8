"""Contract: kNN-LM mixes as the paper's equations say, never reads the own document's states, is
tuned on the text it is given alone, and goes on from a datastore that was begun before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rival_text import STRIDE, WINDOW, small_model, small_store, subset_of

from retro_lab.config.schema import KnnLmConfig
from retro_lab.memory.datastore import (
    Datastore,
    build_index,
    build_states,
    index_stage,
    states_stage,
)
from retro_lab.memory.states import token_states
from retro_lab.nn.retro import DecoderBlock
from retro_lab.rivals import knn_lm
from retro_lab.rivals.states import token_nats
from retro_lab.run.model import weights_digest
from retro_lab.store import ArtifactStore, Stage

CHUNKS = Stage("chunks", 1, {}, {})
BATCH = 2
GRID = KnnLmConfig([2, 5], [0.5, 20.0], [0.0, 0.3, 0.9], "Flat")


def open_datastore(
    folder: Path,
    config: KnnLmConfig = GRID,
    watch: Callable[[torch.Tensor], None] | None = None,
) -> Datastore:
    """`watch` is told the states of each batch, before they are used."""
    store, model = small_store(), small_model()
    artifacts = ArtifactStore(folder, largest_block=BATCH)
    if watch is not None:
        last = model.blocks[-1]
        assert isinstance(last, DecoderBlock)
        last.ff.register_forward_pre_hook(lambda _, inputs: watch(inputs[0]))
    stage = states_stage(CHUNKS, weights_digest(model), window=WINDOW, stride=STRIDE)
    read = subset_of(store, "train").windows()
    states = artifacts.build(stage, lambda w: build_states(model, *read, BATCH, w))
    factory = config.factory
    index = artifacts.build(index_stage(stage, factory), lambda w: build_index(states, factory, w))
    return Datastore(states, index, config.nprobe)


def all_keys(datastore: Datastore) -> np.ndarray:
    return datastore.index.reconstruct_n(0, len(datastore.tokens))


def test_the_datastore_has_a_state_for_every_training_token_in_order(tmp_path: Path) -> None:
    subset, datastore = subset_of(small_store(), "train"), open_datastore(tmp_path)
    expected = [subset.tokens_of(d)[1:] for d in subset.documents.tolist()]
    assert np.array_equal(datastore.tokens, np.concatenate(expected))
    lengths = [len(tokens) for tokens in expected]
    assert np.array_equal(datastore.document, np.repeat(subset.documents, lengths))


def test_a_state_is_the_input_of_the_last_feed_forward(tmp_path: Path) -> None:
    """The first document, by hand: its first window holds the first 16 tokens."""
    subset, model = subset_of(small_store(), "train"), small_model()
    ids = torch.from_numpy(subset.tokens_of(0)[:16])[None]
    seen = []
    block = model.blocks[-1]
    assert isinstance(block, DecoderBlock)
    hook = block.ff.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(ids)
    hook.remove()
    keys = all_keys(open_datastore(tmp_path))[:16]
    assert np.allclose(keys, seen[0][0].detach().numpy(), atol=2e-2)


def test_the_mixture_is_the_papers_equation() -> None:
    rng = np.random.default_rng(0)
    distances = np.sort(rng.random((7, 5)).astype(np.float32) * 9, axis=1)
    tokens, vocabulary = rng.integers(0, 3, (7, 5)), 4
    lm = rng.dirichlet(np.ones(vocabulary), 7)
    distances[0, 3:] = np.inf  # fewer neighbours than asked for
    weight, temperature = 0.3, 2.0
    mixed = np.empty((7, vocabulary))
    for token in range(vocabulary):
        knn = knn_lm.knn_log_probs(distances, tokens == token, temperature)
        mixed[:, token] = np.exp(-knn_lm.mixed_nats(-np.log(lm[:, token]), knn, weight))
    for row in range(7):
        for token in range(vocabulary):
            share = np.exp(-distances[row].astype(float) / temperature)
            p_knn = share[tokens[row] == token].sum() / share.sum()
            expected = weight * p_knn + (1 - weight) * lm[row, token]
            assert mixed[row, token] == pytest.approx(expected, rel=1e-9)
    assert np.allclose(mixed.sum(axis=1), 1)


def test_nothing_found_leaves_the_language_models_share() -> None:
    knn = knn_lm.knn_log_probs(np.full((1, 2), np.inf, np.float32), np.zeros((1, 2), bool), 1.0)
    assert knn_lm.mixed_nats(np.array([1.0]), knn, 0.5)[0] == pytest.approx(1 + np.log(2))


@pytest.mark.parametrize("factory", ["Flat", "IVF2,Flat"])
def test_the_own_document_is_never_found(tmp_path: Path, factory: str) -> None:
    """Queries are the database's own states, each of which would find itself first."""
    datastore = open_datastore(tmp_path, config=KnnLmConfig(factory=factory, nprobe=2))
    keys = all_keys(open_datastore(tmp_path))
    document = np.array(datastore.document)
    distances, tokens = datastore.search(keys, document, 6)
    for row in range(len(keys)):
        others = document != document[row]
        squared = ((keys[others] - keys[row]) ** 2).sum(axis=1)
        assert np.allclose(distances[row], np.sort(squared)[:6], rtol=1e-3, atol=1e-3)
    known = datastore.search(keys, np.full(len(keys), 999), 1)[0]
    assert np.allclose(known, 0, atol=1e-3), "of unknown documents nothing is left out"
    assert (tokens >= 0).all()


def test_too_few_states_are_filled_with_nothing(tmp_path: Path) -> None:
    datastore = open_datastore(tmp_path)
    size = len(datastore.tokens)
    document = np.array(datastore.document)[:1]
    distances, tokens = datastore.search(all_keys(datastore)[:1], document, size)
    own = int((datastore.document == document[0]).sum())
    assert np.isinf(distances[0, size - own :]).all()
    assert (tokens[0, size - own :] == -1).all()
    assert np.isfinite(distances[0, : size - own]).all()


def test_tuning_finds_the_best_of_the_grid_and_reads_no_test_text(tmp_path: Path) -> None:
    datastore, model, store = open_datastore(tmp_path), small_model(), small_store()
    store.tokens[store.chunks_of("test")] = 60_000  # no embedding has this token
    subset = subset_of(store, "validation")
    tuning = knn_lm.tune(model, datastore, subset, GRID, BATCH)
    assert len(tuning.trials) == 12
    bits = {}
    for trial in tuning.trials:
        setting = {name: trial[name] for name in ("neighbours", "temperature", "weight")}
        again = knn_lm.score(
            model,
            datastore,
            subset,
            knn_lm.Tuning(setting),
            BATCH,
        )
        assert again.chunk_nats is not None
        bits[tuple(setting.values())] = again.chunk_nats.sum() / np.log(2) / subset.bytes.sum()
        assert trial["bits_per_byte"] == pytest.approx(bits[tuple(setting.values())], abs=1e-6)
    assert bits[tuple(tuning.chosen.values())] == pytest.approx(min(bits.values()))


def test_without_weight_it_is_the_baseline_bit_for_bit(tmp_path: Path) -> None:
    datastore, model = open_datastore(tmp_path), small_model()
    subset = subset_of(small_store(), "test")
    setting = {"neighbours": 2, "temperature": 1.0, "weight": 0.0}
    outcome = knn_lm.score(model, datastore, subset, knn_lm.Tuning(setting), BATCH)
    assert outcome.token_nats is not None
    parts = token_states(model, *subset.windows(), BATCH)
    assert np.array_equal(outcome.token_nats, np.concatenate([part.nats for part in parts]))
    assert np.allclose(outcome.token_nats, token_nats(model, subset, BATCH), rtol=1e-5)


def test_an_interrupted_datastore_goes_on(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def interrupted(states: torch.Tensor) -> None:
        if len(seen) == 3:
            raise KeyboardInterrupt
        noted(states)

    def noted(states: torch.Tensor) -> None:
        seen.append(states.numpy().tobytes())

    with pytest.raises(KeyboardInterrupt):
        open_datastore(tmp_path, watch=interrupted)
    resumed = open_datastore(tmp_path, watch=noted)
    assert len(set(seen)) == len(seen) > 3, "a finished block is not done again"
    whole = open_datastore(tmp_path / "other")
    assert np.array_equal(resumed.tokens, whole.tokens)
    assert np.array_equal(all_keys(resumed), all_keys(whole))
    seen.clear()
    open_datastore(tmp_path, watch=noted)
    assert not seen, "a finished datastore is opened, not built"


def test_other_weights_are_another_datastore() -> None:
    digests = [weights_digest(small_model(seed)) for seed in (0, 0, 1)]
    keys = {states_stage(CHUNKS, each, window=WINDOW, stride=STRIDE).key for each in digests}
    assert len(keys) == 2
