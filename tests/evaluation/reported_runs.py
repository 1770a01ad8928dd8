"""Results of runs that were never trained, written as files for `python -m retro_lab report`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from retro_lab.commands.report import main
from retro_lab.evaluation.measure.leakage import analyse
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import (
    DataCounts,
    EvaluationSettings,
    Results,
    SearchedDatabase,
)

CONFIG: dict[str, Any] = {
    "retriever": {"name": "bm25"},
    "model": {"name": "tiny"},
    "recipe": {"name": "retrofit"},
    "chunking": {"chunk_size": 64},
    "corpus": {"name": "python"},
    "cca": {"placement": "mid", "layers": None},
    "neighbours": {"k": 2},
    "eval": {"k": None, "overlap_neighbours": 10, "seed": 0},
    "trainer": {"precision": "bf16-mixed", "threads": None},
}
SEARCHED = SearchedDatabase("all of it", "all of it", 30, 200, [])
OWN = "own_neighbours (bm25)"
TEN = "10 own neighbours (bm25)"


@dataclass
class Runs:
    """Writes results.json below a folder of runs, and reports it."""

    folder: Path
    make_table: Callable[..., ChunkTable]
    capture: pytest.CaptureFixture[str] = field(repr=False)

    def results(self, seed: int, config: dict[str, Any] = CONFIG, **evaluation: Any) -> Results:
        table = self.make_table(seed=seed)
        reference = evaluation.pop("reference", OWN)
        settings = EvaluationSettings("test", 512, 256, 0.9, SEARCHED)
        settings = replace(settings, **evaluation)
        return Results(
            run_key=f"{config['retriever']['name']}{seed}",
            config=config | {"seed": seed},
            lineage={"chunks": "fedcba9876543210"},
            environment={},
            data=DataCounts(documents=30, chunks=200, tokens=9000, bytes=30_000),
            evaluation=settings,
            metrics={settings.split: {name: table.score(name) for name in table.nats}},
            leakage=analyse(table, [0.125, 1.0], reference, Bootstrap(20)),
            timing={"training": 60.0},
        )

    def write(self, name: str, results: Results) -> Path:
        (self.folder / name).mkdir(parents=True)
        results.save(self.folder / name / "results.json")
        return self.folder / name

    def report(self, *more: str) -> str:
        assert main([str(self.folder), *more]) == 0
        return self.capture.readouterr().out

    def csv(self) -> list[dict[str, str]]:
        with (self.folder / "report.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def markdown(self) -> list[dict[str, str]]:
        """Rows of all tables."""
        lines = (self.folder / "report.md").read_text(encoding="utf-8").splitlines()
        found, heads = [], None
        for line in lines:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not line.startswith("|"):
                heads = None
            elif heads is None:
                heads = cells
            elif "---" not in cells:
                found.append(dict(zip(heads, cells, strict=True)))
        return found


def with_part(group: str, **values: Any) -> dict[str, Any]:
    return CONFIG | {group: CONFIG[group] | values}
