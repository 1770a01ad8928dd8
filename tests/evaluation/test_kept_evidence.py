"""Contract: evidence is read once for all models of an evaluation, up to a limit of tokens; what
depends on the model's states is read for each."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest

from retro_lab.evaluation.measure.memory_scoring import KeptEvidence
from retro_lab.memory.evidence import Text

TEXT = Text(np.arange(10, dtype=np.int32))
WINDOW = Mock(states="of the model")


def memory(needs_states: bool = False) -> Mock:
    return Mock(needs_states=needs_states, read=Mock(side_effect=lambda *given: given))


@pytest.mark.parametrize("other", [(True, 3, 0, 4), (False, 4, 0, 4), (False, 3, 1, 4)])
def test_the_same_tokens_are_read_once(other: tuple[bool, int, int, int]) -> None:
    kept, read = KeptEvidence(), memory()
    first = kept.read(read, TEXT, (False, 3, 0, 4), WINDOW)
    assert kept.read(read, TEXT, (False, 3, 0, 4), WINDOW) is first
    assert read.read.call_count == 1
    kept.read(read, TEXT, other, WINDOW)
    assert read.read.call_count == 2


def test_beyond_the_limit_tokens_are_read_again() -> None:
    kept, read = KeptEvidence(most=5), memory()
    for _ in range(2):
        kept.read(read, TEXT, (False, 3, 0, 4), WINDOW)
        kept.read(read, TEXT, (False, 3, 4, 8), WINDOW)
    assert read.read.call_count == 3


def test_evidence_of_states_is_of_one_model() -> None:
    kept, read = KeptEvidence(), memory(needs_states=True)
    for _ in range(2):
        assert kept.read(read, TEXT, (False, 3, 0, 4), WINDOW)[-1] == "of the model"
    assert read.read.call_count == 2
