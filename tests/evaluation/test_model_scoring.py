"""Contract of scoring: each target counts once, in its own chunk; conditions differ by their
neighbours only; tokens that could read a neighbour are counted; bad losses don't pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retro_lab.config.errors import UserError
from retro_lab.evaluation.measure.metrics import ChunkScores
from retro_lab.evaluation.measure.scoring import score

M, PAD, CHUNKS, VOCABULARY = 4, 31, 6, 32


class CountingModel(nn.Module):
    """Nats are target / 8, less 0.5 for all of a window that came with neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def token_nats(
        self,
        input_ids: Tensor,
        targets: Tensor,
        neighbour_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        assert not self.training, "evaluation mode"
        nats = self.weight * targets / 8
        if neighbour_ids is not None:
            nats = nats - 0.5
        return nats.masked_fill(targets == -100, 0.0)


def windows() -> list[dict[str, Tensor]]:
    """Two documents of 3 chunks, two windows of 2 chunks each, which overlap by a chunk."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, PAD, (CHUNKS * M,), generator=generator)
    sizes = torch.randint(0, 4, (CHUNKS * M,), generator=generator)
    made = []
    for first_chunk, end in [(0, 3 * M), (1, 3 * M), (3, 6 * M), (4, 6 * M)]:
        inputs = torch.arange(first_chunk * M, (first_chunk + 2) * M)
        targets = inputs + 1
        scored = targets < end
        if first_chunk in (1, 4):
            scored[:M] = False  # the window before has scored these
        targets = targets.clamp(max=CHUNKS * M - 1)
        neighbours = torch.randint(0, PAD, (2, 2, 2 * M), generator=generator)
        if first_chunk == 1:
            neighbours[1] = PAD  # a chunk without any neighbour
        made.append(
            {
                "input_ids": tokens[inputs],
                "targets": torch.where(scored, tokens[targets], -100),
                "document_ids": torch.full((2 * M,), first_chunk // 3),
                "target_bytes": torch.where(scored, sizes[targets], 0),
                "target_chunks": torch.where(scored, targets // M, -1),
                "neighbour_ids": neighbours,
            }
        )
    return made


def collate(size: int) -> list[dict[str, Tensor]]:
    made = windows()
    groups = [made[start : start + size] for start in range(0, len(made), size)]
    return [{name: torch.stack([w[name] for w in group]) for name in made[0]} for group in groups]


def run(batch_size: int = 2, **options: bool) -> ChunkScores:
    return score(CountingModel(), collate(batch_size), CHUNKS, chunk_size=M, pad_id=PAD, **options)


def test_sums_by_chunk_equal_a_loop_over_targets() -> None:
    nats, tokens, num_bytes = np.zeros(CHUNKS), np.zeros(CHUNKS), np.zeros(CHUNKS)
    reads = np.zeros(CHUNKS)
    for window in windows():
        present = [bool((chunk != PAD).any()) for chunk in window["neighbour_ids"]]
        for t, chunk in enumerate(window["target_chunks"].tolist()):
            if chunk == -1:
                continue
            nats[chunk] += window["targets"][t].item() / 8 - 0.5
            tokens[chunk] += 1
            num_bytes[chunk] += window["target_bytes"][t].item()
            reads[chunk] += t >= M - 1 and present[(t - M + 1) // M]
    scores = run()
    assert (scores.nats == nats).all()
    assert (scores.tokens == tokens).all()
    assert (scores.bytes == num_bytes).all()
    assert (scores.with_retrieval == reads).all()
    assert scores.total().tokens == 2 * (3 * M - 1)
    assert 0 < reads.sum() < tokens.sum(), "or the comparison says nothing"


def test_token_scores_add_up_and_stand_at_their_own_places() -> None:
    scores, plain = run(by_token=True), run()
    each = scores.by_token
    assert plain.by_token is None
    assert each is not None
    assert each.nats.shape == (CHUNKS, M)
    assert (each.nats.sum(axis=1) == scores.nats).all()
    assert (each.with_retrieval.sum(axis=1) == scores.with_retrieval).all()
    for window in windows():
        present = [bool((chunk != PAD).any()) for chunk in window["neighbour_ids"]]
        first = int(window["target_chunks"].max()) * M  # a chunk's first token is predicted before
        for t, chunk in enumerate(window["target_chunks"].tolist()):
            if chunk == -1:
                continue
            place = (t + 1) % M
            assert each.nats[chunk, place] == window["targets"][t].item() / 8 - 0.5
            assert each.with_retrieval[chunk, place] == (t >= M - 1 and present[(t - M + 1) // M])
        assert first >= 0


def test_batch_size_and_progress_change_nothing() -> None:
    seen: list[int] = []
    one = score(CountingModel(), collate(1), CHUNKS, chunk_size=M, pad_id=PAD, advance=seen.append)
    assert seen == [1, 1, 1, 1]
    assert (one.nats == run(3).nats).all()
    assert (one.with_retrieval == run(3).with_retrieval).all()


def test_off_takes_the_neighbours_away_on_the_same_tokens() -> None:
    on, off = run(), run(retrieval=False)
    assert (on.tokens == off.tokens).all()
    assert off.with_retrieval.sum() == 0
    assert off.total().nats == pytest.approx(on.total().nats + 0.5 * on.total().tokens)


def test_retrieval_without_neighbours_is_an_error() -> None:
    batch = collate(4)[0]
    del batch["neighbour_ids"]
    with pytest.raises(ValueError, match="neighbour_ids"):
        score(CountingModel(), [batch], CHUNKS, chunk_size=M, pad_id=PAD)
    score(CountingModel(), [batch], CHUNKS, chunk_size=M, pad_id=PAD, retrieval=False)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_reported(bad: float) -> None:
    model = CountingModel()
    model.weight.data.fill_(bad)
    with pytest.raises(UserError, match="not finite"):
        score(model, collate(2), CHUNKS, chunk_size=M, pad_id=PAD)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored(training: bool) -> None:
    model = CountingModel().train(training)
    score(model, collate(2), CHUNKS, chunk_size=M, pad_id=PAD)
    assert model.training is training


def test_unscored_chunks_have_no_row() -> None:
    scores = score(CountingModel(), collate(2), CHUNKS + 5, chunk_size=M, pad_id=PAD)
    assert scores.rows.tolist() == list(range(CHUNKS))
    assert scores.total() == run().total()
