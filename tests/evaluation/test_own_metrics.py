"""Contract: a metric of the user's own gets the table of scored chunks and its settings, and gives
finite figures by name; a metric that fails is named with its line.
"""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retro_lab.config.errors import UserError
from retro_lab.config.parts import with_own_parts
from retro_lab.config.schema import MetricsConfig
from retro_lab.run.evaluating.own_metrics import own_metrics


@pytest.fixture
def chunks(tmp_path: Path) -> Path:
    path = tmp_path / "chunks.parquet"
    pq.write_table(pa.table({"nats_on": [1.0, 2.0, 3.0, 4.0], "tokens": [4, 4, 4, 4]}), path)
    return path


def figures(chunks: Path, function: str, **settings: float) -> dict[str, dict[str, float]] | None:
    name = function.rpartition(":")[2]
    config = MetricsConfig([function], {name: settings})
    return own_metrics(with_own_parts(config, "eval.metrics."), chunks)


def test_figures_are_of_the_stored_table_by_the_settings(chunks: Path) -> None:
    path = "worst_chunks:worst_chunks"
    assert figures(chunks, path, share=0.5) == {"worst_chunks": {"on": 0.7}}
    assert figures(chunks, path) == {"worst_chunks": {"on": 0.4}}
    assert own_metrics(MetricsConfig(), chunks) is None


def fails(table: pa.Table) -> dict[str, float]:
    return {"on": table["no_such_column"][0]}


def not_finite(table: pa.Table) -> dict[str, float]:
    return {"on": math.inf}


def unnamed(table: pa.Table) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("fails", r"failed in .*: KeyError"),
        ("not_finite", "not finite numbers by name"),
        ("unnamed", "not finite numbers by name"),
    ],
)
def test_a_wrong_metric_is_named(chunks: Path, function: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        figures(chunks, f"{__name__}:{function}")


def test_an_unknown_setting_is_named(chunks: Path) -> None:
    with pytest.raises(UserError, match=r"eval\.metrics\.settings\.worst_chunks\.share\?"):
        figures(chunks, "worst_chunks:worst_chunks", shar=0.5)
