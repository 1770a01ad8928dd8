"""Contract of `generate`: each prompt of a batch goes on as if it were alone, searches come when
they are due, and a step costs what its tokens cost, whatever came before.
"""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import PAD, VOCABULARY, Case, cases, make_case
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from retro_lab.nn import Query, Sampling, generate
from retro_lab.nn.cpu import plain
from retro_lab.nn.decode import new_cache, step


def found_for(case: Case, queries: list[Query]) -> Tensor:
    """[Q, K, R], what is found for a query: it depends on the query's tokens alone."""
    rows = []
    for query in queries:
        generator = torch.Generator().manual_seed(hash(tuple(query.tokens)) % 2**31)
        rows.append(torch.randint(0, PAD, case.neighbours.shape[2:], generator=generator))
    return torch.stack(rows)


def continued(case: Case, prompts: list[list[int]], seed: int = 0, **options) -> list[list[int]]:
    """What follows each prompt, and nothing of tokens that end a row."""
    after: list[list[int]] = [[] for _ in prompts]
    steps = generate(
        case.model,
        prompts,
        Sampling(temperature=1.0, seed=seed),
        stop_id=0,
        search=lambda queries: found_for(case, queries),
        **options,
    )
    for new in steps:
        for row, token in new.items():
            after[row].append(token)
    return after


@settings(max_examples=15, deadline=None)
@given(
    case=cases,
    lengths=st.lists(st.integers(1, 11), min_size=1, max_size=4),
    max_tokens=st.integers(1, 9),
    share=st.floats(0, 1),
    left_pad=st.booleans(),
)
def test_each_prompt_goes_on_as_if_it_were_alone(
    case: Case, lengths: list[int], max_tokens: int, share: float, left_pad: bool
) -> None:
    stride = 1 + int(share * (case.chunk_size - 1))
    options = {"max_tokens": max_tokens, "stride": stride, "left_pad": left_pad}
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(1, PAD, (n,), generator=generator).tolist() for n in lengths]
    together = continued(case, prompts, **options)
    for row, prompt in enumerate(prompts):
        assert together[row] == continued(case, [prompt], seed=row, **options)[0]
        assert 0 not in together[row]
        assert len(together[row]) <= max_tokens


def test_rows_at_different_places_read_more_keys_than_the_model_is_wide() -> None:
    """Relative positions have a row for each distance, and here 13 of them at width 12."""
    case = make_case(chunk_size=4, continuation_chunks=2, positions="relative", cca_positions=True)
    assert case.model.config.d_model < 3 * 4 + 1
    prompts = [[1], [2, 3]]
    together = continued(case, prompts, max_tokens=4)
    assert together == [
        continued(case, [p], seed=r, max_tokens=4)[0] for r, p in enumerate(prompts)
    ]


def test_queries_are_the_latest_tokens_when_they_are_due() -> None:
    case, asked = make_case(), []

    def search(queries: list[Query]) -> Tensor:
        asked.extend(queries)
        return found_for(case, queries)

    prompt = [1, 2, 3, 4, 5, 6]
    steps = generate(
        case.model, [prompt], Sampling(), max_tokens=5, search=search, stride=3, left_pad=False
    )
    text = prompt + [step[0] for step in steps]
    assert [query.end for query in asked] == [3, 6, 9]  # the last token is not read by anyone
    assert all(query.tokens == text[max(0, query.end - 4) : query.end] for query in asked)


def test_rows_that_end_are_not_worked_on() -> None:
    case = make_case(pointer=True)
    batches: list[int] = []
    case.model.embedding.register_forward_hook(lambda module, args, out: batches.append(len(out)))
    after = continued(case, [[1], [2, 3], [4, 5, 6]], max_tokens=60)
    ends = sorted((len(row) for row in after), reverse=True)
    assert ends[-1] < 60
    # The first batch reads the prompts; a row that has written n tokens was worked on n + 1 times.
    expected = sum(min(60, end + 1) for end in ends)
    assert sum(size for size in batches if size <= 3) == expected


@pytest.mark.parametrize("pointer", [False, True])
def test_the_cost_of_a_token_does_not_grow(pointer: bool) -> None:
    steps = 14
    case = make_case(length=steps, batch=1, pointer=pointer)
    plain(case.model)  # the counter does not see a token's kernels
    size, cache, flops = case.chunk_size, new_cache(case.model, 1), []
    for place in range(steps):
        neighbours = case.neighbours[:1, :1] if cache.searching(0) else None
        with FlopCounterMode(display=False) as counter:
            step(case.model, case.tokens[:1, place : place + 1], cache, neighbours)
        # What attention itself adds grows with the keys it sees: with the length, as it must.
        by_operator = counter.get_flop_counts()["Global"]
        flops.append(sum(n for name, n in by_operator.items() if "attention" not in str(name)))
    assert len(set(flops[: size - 1])) == 1  # nothing to read yet
    assert len(set(flops[size - 1 :: size])) == 1  # encodes what its search has found
    between = [n for place, n in enumerate(flops) if place >= size and (place + 1) % size]
    assert len(set(between)) == 1
    assert 2 * between[0] < flops[size - 1]


def test_wrong_use_is_an_error_that_says_so() -> None:
    case = make_case()
    with pytest.raises(ValueError, match="at least one token"):
        list(generate(case.model, [[1], []], Sampling(), max_tokens=1))
    with pytest.raises(ValueError, match="stride must be 1 to 4"):
        list(generate(case.model, [[1]], Sampling(), max_tokens=1, stride=0, left_pad=True))


@pytest.mark.gpu
def test_a_step_on_a_gpu_waits_for_nothing_and_says_the_same() -> None:
    case = make_case(pointer=True, batch=2)
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8]]
    expected = continued(case, prompts, max_tokens=20)
    there = copy.deepcopy(case)
    there.model.to("cuda")
    assert continued(there, prompts, max_tokens=20) == expected
    for first in ([0, 0], [1, 0]):
        cache = new_cache(there.model, 2, first=first)
        tokens = torch.randint(0, VOCABULARY - 1, (2, 12), device="cuda")
        for place in range(12):
            new, neighbours = tokens[:, place : place + 1], None
            if cache.searching(0):  # a search speaks with the host anyway
                neighbours = there.neighbours[:, :1].to("cuda")
            torch.cuda.set_sync_debug_mode("default" if neighbours is not None else "error")
            try:
                step(there.model, new, cache, neighbours)
            finally:
                torch.cuda.set_sync_debug_mode("default")
