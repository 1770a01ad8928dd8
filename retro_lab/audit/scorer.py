"""What a scorer of one's own is: a class or a function, named `scorer=package.module:name`.

    class MyScorer:
        def score(self, text):
            "The tokens of a document, in order: (start, stop, nats) or (start, stop, nats, id)."
        def distribution(self, tokens):
            "Log-probabilities over the vocabulary after these token ids of a document."

`start` and `stop` are byte offsets in the text's UTF-8. A class is constructed without arguments,
as often as the audit needs a scorer that has seen nothing. A function is taken for `score`.
`distribution` is optional and needs ids. It gets the ids before a token ([] at a document's start),
and must not change the scorer. A scorer that learns as it goes is given the documents in order, and
is copied by `copy.deepcopy`. Its `distribution` answers as the scorer would after these tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.consent import allow
from retro_lab.config.errors import UserError, first_line
from retro_lab.config.parts import imported

from .scores import TokenScores

_DOCS = "docs/audit.md shows a whole scorer"


class Scorer(Protocol):
    """Scores documents; `distribution(tokens)`, which returns log-probabilities, is optional."""

    def score(self, text: str) -> Iterable[Sequence[float]]:
        """The document's tokens in order: (start, stop, nats), or also the token's id."""
        ...


@dataclass(frozen=True)
class Subject:
    """The scorer of an audit.

    Attributes:
        name: as typed.
        fresh: returns a scorer that has seen no document.
        learns: whether it learns from documents that it has scored.
    """

    name: str
    fresh: Callable[[], Scorer]
    learns: bool = False

    def copy(self, scorer: Scorer) -> Scorer:
        """A scorer in the same state; the same one if it has no state.

        Raises:
            UserError: it can't be copied.
        """
        if not self.learns:
            return scorer
        try:
            return copy.deepcopy(scorer)
        except Exception as error:
            raise UserError(
                f"scorer={self.name} can't be copied: {first_line(error)}",
                fix="a scorer that learns needs __deepcopy__, so that it can be asked what if",
            ) from error


class _Function:
    """A function as a scorer."""

    def __init__(self, function: Callable[[str], Iterable[Sequence[float]]]) -> None:
        self._function = function

    def score(self, text: str) -> Iterable[Sequence[float]]:
        return self._function(text)


def import_scorer(name: str, learns: bool) -> Subject:
    """The scorer that a user named on the command line.

    Raises:
        UserError: it can't be imported, or is no scorer.
    """
    allow(name)
    found = imported(name, "scorer", "scorer")
    if not isinstance(found, type):
        if learns:
            raise UserError(
                f"scorer={name} is a function, and learns=on needs scorers that have seen nothing",
                fix=f"make it a class with score(text); {_DOCS}",
            )
        return Subject(name, lambda: _Function(found))
    if not callable(getattr(found, "score", None)):
        raise UserError(f"scorer={name} has no method score", fix=_DOCS)
    return Subject(name, found, learns)


def scored(scorer: Scorer, text: str, name: str) -> TokenScores:
    """What a scorer says of a document.

    Raises:
        UserError: it is not what a scorer returns.
    """
    with _failures(name, "score"):
        rows = [tuple(row) for row in scorer.score(text)]
    lengths = {len(row) for row in rows} or {3}
    if len(lengths) > 1 or not lengths <= {3, 4}:
        raise UserError(
            f"scorer={name} returned rows of {' and '.join(map(str, sorted(lengths)))} values",
            fix=f"return (start, stop, nats) or (start, stop, nats, id) for each token; {_DOCS}",
        )
    columns: list[Sequence[float]] = list(zip(*rows, strict=True)) or [()] * 3
    with _failures(name, "score"):
        start, stop = (np.array(column, np.int64) for column in columns[:2])
        nats = np.array(columns[2], np.float64)
        ids = np.array(columns[3], np.int64) if len(columns) == 4 else None
    if np.isnan(nats).any():
        raise UserError(f"scorer={name} returned nats that are no number", fix=_DOCS)
    return TokenScores(start, stop, nats, ids)


def distribution(scorer: Scorer, tokens: Sequence[int], name: str) -> NDArray[np.float64]:
    """[V] log-probabilities after these tokens.

    Raises:
        UserError: it is no row of numbers.
    """
    ask: Any = scorer
    with _failures(name, "distribution"):
        found = np.asarray(ask.distribution(list(tokens)), np.float64)
    if found.ndim != 1 or np.isnan(found).any():
        raise UserError(
            f"scorer={name}: distribution returned shape {found.shape}"
            f"{' with NaN' if np.isnan(found).any() else ''}",
            fix=f"return one log-probability for each id of the vocabulary; {_DOCS}",
        )
    return found


@contextmanager
def _failures(name: str, method: str) -> Iterator[None]:
    """Raises a UserError for an exception of the user's code."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"scorer={name} failed in {method}: {type(error).__name__}: {first_line(error)}",
            fix=f"call {method} by itself to see the whole error; {_DOCS}",
        ) from error
