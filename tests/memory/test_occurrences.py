"""Contract: a token's occurrences are all its places after the longest context that it follows in
documents that are not excluded, and by matches that are not too long.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_database import (
    BOUNDARY,
    Occurrence,
    SmallDatabase,
    context_at,
    cut,
    in_order,
    random_documents,
    whole_reader,
)

from retro_lab.memory.context_reader import ContextReader
from retro_lab.memory.evidence import Text
from retro_lab.memory.occurrences import occurrences
from retro_lab.memory.sorted_contexts import LONGEST


def matched(found: Occurrence, context: tuple[int, ...]) -> int:
    """Tokens that agree before both places."""
    for n, (ours, theirs) in enumerate(zip(context, found.context, strict=False)):
        if ours != theirs:
            return n
    return min(len(context), len(found.context))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    letters=st.integers(1, 4),
    cuts=st.lists(st.integers(1, 7), max_size=2),
    excluded=st.sets(st.integers(0, 7), max_size=3),
    max_run=st.sampled_from([None, 1, 3, 9, LONGEST, 2 * LONGEST]),
)
def test_all_places_after_the_longest_context(seed, letters, cuts, excluded, max_run) -> None:
    chunks = SmallDatabase(random_documents(seed, letters=letters))
    reader = ContextReader(chunks, cut(chunks, cuts)[0], max_run=max_run)
    tokens = max(random_documents(seed + 1, letters=letters), key=len)
    text = Text(np.array([BOUNDARY, *tokens], np.int32), np.array(sorted(excluded), np.int64))
    kept = sorted(set(range(chunks.num_documents)) - excluded)
    every = in_order(chunks, kept)
    for at in range(1, len(text.tokens)):
        context = context_at(text.tokens.tolist(), at)
        said = {o.place: matched(o, context) for o in every if o.token == text.tokens[at]}
        if max_run is not None and max_run < LONGEST:
            said = {place: n for place, n in said.items() if n <= max_run}
        longest = max(said.values(), default=0)
        places = sorted(place for place, n in said.items() if n == longest > 0)
        found = occurrences(reader, text, at)
        assert (found.match, found.places.tolist()) == (longest, places)


def test_of_very_many_a_sample() -> None:
    chunks = SmallDatabase([[0] * 200])
    reader = whole_reader(chunks, most=20)
    text = Text(np.array([BOUNDARY, 3, 0, 0], np.int32))
    found = occurrences(reader, text, 3)
    assert found.match == 1
    assert 10 <= len(found.places) <= 20
