"""Figures of the user's own, from the table of scored chunks as it is stored."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from retro_lab.config.errors import UserError, problem
from retro_lab.config.parts import own_code, part_class, part_keywords
from retro_lab.config.schema import MetricsConfig, OwnPart
from retro_lab.evaluation.records.results import Results
from retro_lab.store.integrity import sha256_of

from ..directory import RunDirectory

LOG = logging.getLogger("retro_lab")
Figures = dict[str, dict[str, float]]  # by metric and name


@dataclass(frozen=True)
class EarlierFigures:
    """Figures of metrics that an earlier evaluation stored, with its scored chunks.

    Attributes:
        figures: by metric; None without any.
        chunks: SHA-256 of its chunks.parquet.
    """

    figures: Figures | None = None
    chunks: str | None = None

    @classmethod
    def of(cls, out: RunDirectory) -> EarlierFigures:
        """Those in a directory of results; none if it has no complete results."""
        try:
            if out.evaluation is None:
                return cls()
            return cls(Results.load(out.results_file).custom, sha256_of(out.chunks_file))
        except UserError:  # damaged files are written anew
            return cls()

    def still_valid(self, chunks_file: Path) -> Figures | None:
        """The figures, if these are the same chunks with the same scores."""
        same = self.figures is not None and sha256_of(chunks_file) == self.chunks
        return self.figures if same else None


def own_metrics(config: MetricsConfig, chunks_file: Path) -> Figures | None:
    """Figures by metric, each function called with the table of chunks.parquet and its settings.

    Returns:
        None without metrics.

    Raises:
        UserError: a function can't be imported, fails, or does not return finite figures by name.
    """
    if not config.cls:
        return None
    table = pq.read_table(chunks_file)
    found = {name: _figures(name, part, table) for name, part in config.named.items()}
    for name, figures in found.items():
        LOG.info("%s: %s", name, ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    return found


def _figures(name: str, part: OwnPart, table: Any) -> dict[str, float]:
    metric = part_class(part, "eval.metrics.")
    keywords = part_keywords(part, f"eval.metrics.settings.{name}.")
    with own_code(part):
        given = metric(table, **keywords)
    if not isinstance(given, Mapping) or not all(map(_is_figure, given.items())):
        raise problem(
            "eval.metrics.class",
            [part.cls],
            f"returned {given!r}, not finite numbers by name",
            'return {"figure": 0.5}, and leave out what can\'t be measured',
        )
    return {key: float(value) for key, value in given.items()}


def _is_figure(item: tuple[Any, Any]) -> bool:
    name, value = item
    return isinstance(name, str) and isinstance(value, Real) and math.isfinite(value)
