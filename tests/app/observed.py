"""Which conditions a model was run for, as the progress says it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from retro_lab.evaluation.measure.conditions import LABELS

_SCORING = re.compile(r"scoring (.+): [\d,]+ windows?$")
_CONDITIONS = {label: condition for condition, label in LABELS.items()} | {"the model": "baseline"}


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.conditions: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if found := _SCORING.match(record.getMessage()):
            self.conditions.append(_CONDITIONS[found[1]])


@contextmanager
def scored_conditions() -> Iterator[list[str]]:
    """The list of conditions that are scored meanwhile, in order; stored scores don't count."""
    logger, listener = logging.getLogger("retro_lab"), _Listener()
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        yield listener.conditions
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
