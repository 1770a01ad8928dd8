"""Contract: a memory that needs the model's states is read with those at the scored positions, the
ones that a datastore holds of the same windows; other memories cost no look at the model.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_store import BOUNDARY, PAD, VOCABULARY, SmallStore
from small_table import SmallTable

from retro_lab.config.schema import ChunkingConfig
from retro_lab.data.dataset import EvaluationData
from retro_lab.evaluation.measure import memory_scoring
from retro_lab.evaluation.measure.memory_scoring import (
    LOGITS_AT_ONCE,
    DocumentTexts,
    token_readings,
)
from retro_lab.memory.evidence import Evidence, Text
from retro_lab.memory.memory import Memory
from retro_lab.memory.states import token_states
from retro_lab.nn import Retro, RetroConfig

CHUNK, WINDOW, STRIDE, K = 4, 16, 8, 2


class Listening:
    """Experts that note what they are read with."""

    name, experts, features = "heard", ("heard:a",), ("heard:b",)

    def __init__(self, needs_states: bool = True) -> None:
        self.needs_states = needs_states
        self.tokens: list[NDArray[np.int32]] = []
        self.states: list[NDArray[np.float32] | None] = []

    def read(
        self, text: Text, start: int, stop: int, states: NDArray[np.float32] | None = None
    ) -> Evidence:
        assert states is None or len(states) == stop - start
        self.tokens.append(text.tokens[start:stop])
        self.states.append(states)
        one = np.ones((stop - start, 1), np.float32)
        return Evidence(one, one > 0, one.astype(np.int32), one)

    def mixture(
        self, text: Text, share: NDArray[np.float32], states: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def store() -> SmallStore:
    return SmallStore([30, 9, 1, 41, 17, 2], CHUNK)


@pytest.fixture(scope="module")
def model() -> Retro:
    torch.manual_seed(0)
    config = RetroConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        num_layers=2,
        num_heads=2,
        head_dim=8,
        d_ff=32,
        cca_layers=(2,),
        encoder_d_model=16,
        encoder_num_layers=1,
        encoder_cca_layers=(),
        chunk_size=CHUNK,
        neighbour_length=2 * CHUNK,
        pad_id=PAD,
    )
    model = Retro(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) / 4)
    return model


def windows(store: SmallStore, retrieval: bool) -> EvaluationData:
    table = SmallTable(store) if retrieval else None
    return EvaluationData(store, "train", ChunkingConfig(CHUNK, 1, WINDOW), table, K, STRIDE)


def heard(
    store: SmallStore,
    model: Retro,
    retrieval: bool,
    at_once: int = LOGITS_AT_ONCE,
    **settings,
) -> Listening:
    experts, data = Listening(**settings), windows(store, retrieval)
    batches = [data.__getitems__([first, first + 1]) for first in range(0, len(data) - 1, 2)]
    texts = {False: DocumentTexts(store, store)}
    given = model, batches, Memory([experts]), texts, store
    for _ in token_readings(*given, retrieval=retrieval, at_once=at_once):
        pass
    return experts


@pytest.mark.parametrize("retrieval", [False, True])
@pytest.mark.parametrize("at_once", [1, 2**20])
def test_states_are_those_of_the_datastore(
    store: SmallStore, model: Retro, retrieval: bool, at_once: int
) -> None:
    data = windows(store, retrieval)
    assert len(data) % 2 == 0
    parts = list(token_states(model, data, np.arange(len(data)), 3))
    experts = heard(store, model, retrieval, at_once)
    states = np.concatenate([each for each in experts.states if each is not None])
    assert np.array_equal(np.concatenate(experts.tokens), np.concatenate([p.tokens for p in parts]))
    assert states == pytest.approx(np.concatenate([p.keys for p in parts]), abs=1e-4)
    other = list(token_states(model, windows(store, not retrieval), np.arange(len(data)), 3))
    assert not np.allclose(states, np.concatenate([p.keys for p in other]), atol=1e-2)


def test_a_state_knows_the_tokens_before_its_own_alone(store: SmallStore, model: Retro) -> None:
    """Row 4 of a document predicts its token 5, from tokens 0 to 4."""
    seen = heard(store, model, False).states[0]
    changed = SmallStore(store.lengths, CHUNK)
    changed.tokens[1, 1] = (changed.tokens[1, 1] + 1) % BOUNDARY
    other = heard(changed, model, False).states[0]
    assert seen is not None
    assert other is not None
    assert np.array_equal(seen[:5], other[:5])
    assert (np.abs(seen[5:] - other[5:]).max(1) > 1e-4).all()


def test_a_memory_without_need_gets_none(
    store: SmallStore, model: Retro, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_scoring, "watched_states", None)  # calling it would fail
    assert all(states is None for states in heard(store, model, False, needs_states=False).states)


def test_a_model_is_no_longer_watched_afterwards(store: SmallStore, model: Retro) -> None:
    heard(store, model, False)
    assert not model.decoder_blocks()[-1].ff._forward_pre_hooks
