"""Where a database has the tokens before a token: the places behind what a memory counts.

Legend: L = `LONGEST`, P places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .context_reader import ContextReader
from .evidence import Text, contexts_of
from .sorted_contexts import LONGEST, Segment, intervals_of


class Occurrences(NamedTuple):
    """Places of a token after the longest context that it follows in a database.

    Attributes:
        match: length of that context; 0 if the token follows no context.
        places: int64 [P], flat places of the token, ascending.
    """

    match: int
    places: NDArray[np.int64]


def occurrences(reader: ContextReader, text: Text, at: int) -> Occurrences:
    """Places where the token at a place of a text follows as many of the tokens before as possible.

    What the reader leaves out is left out: the text's excluded documents, matches longer than
    `max_run`, and of very many occurrences all but a sample.
    """
    [context] = contexts_of(text.tokens, at, at + 1, LONGEST)
    each = [(segment, intervals_of(reader.chunks, segment, context)) for segment in reader.segments]
    longest = min(reader.max_run or LONGEST, LONGEST)
    for match in range(longest, 0, -1):
        parts = [
            _places(segment, intervals, match, longest, int(text.tokens[at]), reader.most)
            for segment, intervals in each
        ]
        found = np.concatenate([np.empty(0, np.int64), *parts])
        document = np.asarray(reader.chunks.document)[found // reader.chunks.chunk_size]
        found = found[~np.isin(document, text.excluded)]
        if len(found):
            return Occurrences(match, np.sort(found))
    return Occurrences(0, np.empty(0, np.int64))


def _places(
    segment: Segment, intervals: list[range], match: int, longest: int, token: int, most: int
) -> NDArray[np.int64]:
    """Places in a segment where the token follows a context of this length, if not a longer one."""
    part = intervals[match]
    beyond = intervals[longest + 1] if longest < LONGEST else range(0)
    entries = np.arange(part.start, part.stop, max(1, -(-len(part) // most)))
    entries = entries[(entries < beyond.start) | (entries >= beyond.stop)]
    entries = entries[np.asarray(segment.following)[entries] == token]
    return segment.base + np.asarray(segment.order)[entries].astype(np.int64)
