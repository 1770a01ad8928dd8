"""Contract of `step` beyond the chunk grid: left padding, rows of unequal length and searches
every few tokens say what Algorithm 1 says with the neighbours of those searches, and what a row
says does not depend on the rows beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from algorithm_one import Oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import PAD, POSITIONS, Case, cases, make_case
from torch import Tensor

from retro_lab.nn.decode import Cache, Schedule, new_cache, step


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-9)


@dataclass
class Asked:
    """How rows are generated: tokens of each prompt, tokens after it, and when they search."""

    lengths: list[int]
    more: int
    stride: int
    left_pad: bool


def neighbours_of(case: Case, row: int, count: int) -> Tensor:
    """[K, R], what a search of a row after `count` tokens finds: the same in every arrangement."""
    generator = torch.Generator().manual_seed(1000 * row + count)
    found = torch.randint(0, PAD, case.neighbours.shape[2:], generator=generator)
    if (row + count) % 5 == 0:
        found[-1] = PAD
    return found


def feed(case: Case, cache: Cache, rows: list[int], new_ids: Tensor, retrieval: bool) -> Tensor:
    """One `step`, with neighbours for every search that falls into it."""
    searches = cache.searches(new_ids.shape[1])
    most = max(map(len, searches))
    neighbours = torch.full((len(rows), most, *case.neighbours.shape[2:]), PAD)
    for place, (row, counts) in enumerate(zip(rows, searches, strict=True)):
        for i, count in enumerate(counts):
            neighbours[place, i] = neighbours_of(case, row, count)
    return step(case.model, new_ids, cache, neighbours if retrieval else None)


def texts_of(case: Case, asked: Asked) -> list[Tensor]:
    """A row's tokens, prompt and what is generated after it."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, PAD, (n + asked.more,), generator=generator) for n in asked.lengths]


def run(case: Case, asked: Asked, rows: list[int], retrieval: bool = True) -> list[Tensor]:
    """Log-probabilities [N, V] of each of `rows`, as one batch: prompts, then token by token."""
    texts = [texts_of(case, asked)[row] for row in rows]
    lengths = [asked.lengths[row] for row in rows]
    first = [max(lengths) - length for length in lengths]
    shift = [-length % asked.stride for length in lengths] if asked.left_pad else None
    cache = new_cache(case.model, len(rows), asked.stride, first, shift)
    padded = [
        torch.nn.functional.pad(t, (p, 0), value=3) for t, p in zip(texts, first, strict=True)
    ]
    ids, longest = torch.stack(padded), max(lengths)
    outputs = [feed(case, cache, rows, ids[:, :longest], retrieval)]
    for place in range(longest, ids.shape[1]):
        outputs.append(feed(case, cache, rows, ids[:, place : place + 1], retrieval))
    together = torch.cat(outputs, dim=1).log_softmax(-1)
    return [row[begin:] for row, begin in zip(together, first, strict=True)]


def searches_of(asked: Asked, row: int) -> list[int]:
    """After how many tokens a row searches, worked out from the definition."""
    length = asked.lengths[row]
    padding = -length % asked.stride if asked.left_pad else 0
    counts = range(1, length + asked.more + 1)
    return [count for count in counts if (count + padding) % asked.stride == 0]


def by_algorithm_one(case: Case, asked: Asked, row: int) -> Tensor:
    """Log-probabilities [N, V] of the oracle, which pads nothing and caches nothing."""
    searches = searches_of(asked, row)
    found = [neighbours_of(case, row, count) for count in searches]
    neighbours = torch.stack(found) if found else None
    with torch.no_grad():
        text = texts_of(case, asked)[row]
        return Oracle(case.model).logits(text, neighbours, searches).log_softmax(-1)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Case, Asked]:
    """A case and how it is generated; lengths lie around chunk ends."""
    case = draw(cases)
    size = case.chunk_size
    near = [n for n in (1, size - 1, size, size + 1, 2 * size, 2 * size + 1) if n > 0]
    lengths = draw(st.lists(st.sampled_from(near), min_size=1, max_size=3))
    more = draw(st.integers(0, size + 2))
    return case, Asked(lengths, more, draw(st.integers(1, size)), draw(st.booleans()))


@settings(max_examples=20, deadline=None)
@given(request=requests())
def test_a_row_says_the_same_alone_and_in_a_batch(request: tuple[Case, Asked]) -> None:
    case, asked = request
    rows = list(range(len(asked.lengths)))
    for row, found in zip(rows, run(case, asked, rows), strict=True):
        assert_same(found, run(case, asked, [row])[0])


@pytest.mark.parametrize("left_pad", [False, True])
@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_and_strides_are_algorithm_one_with_those_searches(
    positions: str, stride: int, left_pad: bool
) -> None:
    case = make_case(positions=positions)  # type: ignore[arg-type]
    asked = Asked([3, 6], 3, stride, left_pad)
    for row, found in enumerate(run(case, asked, [0, 1])):
        assert_same(found, by_algorithm_one(case, asked, row))


@settings(max_examples=8, deadline=None)
@given(request=requests())
def test_padding_has_no_effect_without_retrieval(request: tuple[Case, Asked]) -> None:
    case, asked = request
    rows = list(range(len(asked.lengths)))
    with torch.no_grad():
        for found, text in zip(
            run(case, asked, rows, retrieval=False), texts_of(case, asked), strict=True
        ):
            assert_same(found, case.model(text.unsqueeze(0))[0].log_softmax(-1))


def test_what_stands_in_a_padded_place_does_not_matter() -> None:
    case = make_case(pointer=True)
    neighbours = case.neighbours[:, :1].clone()
    neighbours[:, 0, 0, :5] = torch.tensor([9, 9, 5, 6, 7])  # a pointer would match 9 9 5 6
    ids = torch.tensor([[1, 2, 3, 4], [9, 9, 5, 6]])
    other = torch.tensor([[1, 2, 3, 4], [8, PAD, 5, 6]])
    outputs = []
    for tokens in (ids, other):
        cache = new_cache(case.model, 2, first=[0, 2], shift=[0, 2])
        outputs.append(step(case.model, tokens, cache, neighbours))
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1, 2:], outputs[1][1, 2:])


def test_the_first_token_after_a_left_padded_prompt_reads_neighbours() -> None:
    case = make_case()
    prompt = case.tokens[:1, :3]
    plain = step(case.model, prompt, new_cache(case.model, 1))
    read = feed(case, new_cache(case.model, 1, shift=[1]), [0], prompt, True)
    assert_same(read[:, :-1], plain[:, :-1])
    assert not torch.allclose(read[:, -1], plain[:, -1])


@pytest.mark.parametrize("rows", [[1, 0, 2], [2, 2, 0, 1], [1]])
def test_reordered_rows_go_on_as_the_rows_they_were(rows: list[int]) -> None:
    case = make_case(pointer=True)
    asked = Asked([3, 6, 5], 6, 4, left_pad=False)
    expected = run(case, asked, [0, 1, 2])
    texts, first = texts_of(case, asked), [3, 0, 1]
    cache = new_cache(case.model, 3, first=first)
    padded = [torch.nn.functional.pad(t, (p, 0)) for t, p in zip(texts, first, strict=True)]
    ids = torch.stack(padded)
    feed(case, cache, [0, 1, 2], ids[:, :7], True)
    cache.reorder(torch.tensor(rows))
    found = feed(case, cache, rows, ids[rows, 7:], True).log_softmax(-1)
    for row, out in zip(rows, found, strict=True):
        assert_same(out, expected[row][7 - first[row] :])


def test_rows_without_a_search_go_on_reading_and_others_stop() -> None:
    case = make_case()
    cache = new_cache(case.model, 2, first=[0, 1])
    feed(case, cache, [0, 1], torch.randint(0, PAD, (2, 5)), True)
    step(
        case.model, torch.randint(0, PAD, (2, 3)), cache, None
    )  # row 0 searches again, for nothing
    assert cache.held is not None
    assert cache.held.chunks.readable[:, 0, 0].tolist() == [False, True]


def test_wrong_schedules_are_errors_that_say_so() -> None:
    model = make_case().model
    for stride in (0, 5):
        with pytest.raises(ValueError, match="stride must be 1 to 4"):
            new_cache(model, 1, stride)
    with pytest.raises(ValueError, match="2 numbers from 0"):
        new_cache(model, 2, first=[1])
    with pytest.raises(ValueError, match="2 numbers from 0"):
        new_cache(model, 2, shift=[1, -1])


def test_searches_follow_the_definition() -> None:
    schedule = Schedule.of(2, 4, 3, first=[0, 2], shift=[0, 1])
    assert schedule.searches(0, 8) == [[3, 6], [2, 5]]
    assert Schedule.of(1, 4, None, None, None).searches(3, 9) == [[4, 8]]
