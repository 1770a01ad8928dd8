"""Contract of the sampler: batches depend on seed and samples consumed alone, whatever the number
of ranks and micro-batches, and an epoch visits every window once."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retro_lab.config.errors import UserError
from retro_lab.data.sampler import ResumableSampler


def batches(count: int, *args, **kwargs) -> list[list[int]]:
    return list(islice(ResumableSampler(*args, **kwargs), count))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 9), st.integers(0, 5))
def test_resuming_continues_the_same_stream(samples, batch_size, done, seed):
    whole = batches(done + 6, samples, batch_size, seed=seed)
    resumed = batches(6, samples, batch_size, seed=seed, start=done * batch_size)
    assert resumed == whole[done:]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_ranks_and_micro_batches_share_out_the_same_global_batches(samples, share, world, parts):
    size = share * world * parts
    whole = batches(4, samples, size, seed=1)
    ranks = [
        batches(4 * parts, samples, size, seed=1, rank=r, world_size=world, accumulate=parts)
        for r in range(world)
    ]
    for step, batch in enumerate(whole):
        micro = range(step * parts, (step + 1) * parts)
        assert [i for m in micro for rank in ranks for i in rank[m]] == batch


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12))
def test_each_epoch_visits_every_sample_once_and_batches_flow_across_epochs(samples, batch_size):
    stream = [i for batch in batches(3 * samples, samples, batch_size, seed=3) for i in batch]
    assert all(len(batch) == batch_size for batch in batches(5, samples, batch_size, seed=3))
    for epoch in range(3):
        assert sorted(stream[epoch * samples : (epoch + 1) * samples]) == list(range(samples))


def test_epochs_and_seeds_shuffle_differently():
    first, second = batches(2, 50, 50, seed=1)
    assert first != second
    assert first != batches(1, 50, 50, seed=2)[0]
    assert first != sorted(first)


def test_a_batch_that_cannot_be_shared_out_is_a_user_error():
    with pytest.raises(UserError, match=r"schedule\.batch_size=8 .* 3 process"):
        ResumableSampler(10, 8, seed=0, world_size=3)
    with pytest.raises(UserError, match="no window"):
        ResumableSampler(0, 8, seed=0)
