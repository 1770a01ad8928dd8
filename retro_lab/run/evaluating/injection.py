"""`evaluate.py run=... eval=injection`: plants growing shares of the test text in the database.

Every dose is an evaluation of the run with `database=planted`, stored under databases/ and reused.
The report reads their chunks.parquet; injection.json and its plot are written beside the run's own
results.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import eval_fields
from retro_lab.config.rules import check
from retro_lab.config.schema import (
    EvalConfig,
    EvaluateConfig,
    Half,
    InjectionConfig,
    MemoryConfig,
    PlantedDatabaseConfig,
    RivalsConfig,
)
from retro_lab.evaluation.measure.injection import Dose, Injection, figures_of
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.report.injection_plot import plot_injection
from retro_lab.evaluation.report.injection_verdict import percent
from retro_lab.evaluation.report.pages.run_page import write_run_page

from ..directory import RunDirectory
from ..finished import FinishedRun
from .reevaluate import evaluate_one

LOG = logging.getLogger("retro_lab")
PLOTS = ("injection.png", "injection.svg")
_PROBES = {
    "random": False,
    "shuffled": False,
    "oracle": False,
    "max_run": None,
    "without_pointer": False,
    "tokens": False,
    "ngram": None,
}  # parts of an evaluation that the experiment turns off


def check_injection(run: RunDirectory, command: EvaluateConfig) -> None:
    """Checks the settings of a leak experiment before anything is evaluated.

    Raises:
        UserError: invalid settings, a run without retrieval, or a `database` besides the doses.
    """
    config = run.config()
    check(dataclasses.replace(config, eval=command.eval))
    if not config.retriever.retrieves:
        raise UserError(
            f"{run.path} is a baseline: it searches nothing, so no leak can reach it",
            fix="evaluate a run with retrieval",
        )
    if command.database is not None:
        raise UserError(
            f"database={command.database.name}: eval.injection plants in the training split itself",
            fix="leave database out, or take another eval",
        )


def run_injection(run: RunDirectory, command: EvaluateConfig) -> dict[str, float]:
    """Evaluates the run at every dose and writes the report; returns seconds by new dose.

    Args:
        run: already evaluated with the command's own settings.
    """
    plain = dataclasses.replace(
        command.eval, pages=0, rivals=RivalsConfig(), injection=InjectionConfig(), **_PROBES
    )
    seconds: dict[str, float] = {}
    found: dict[float, RunDirectory] = {}
    for dose in sorted({0.0, *command.eval.injection.doses}):
        LOG.info("%s of the first half planted", percent(dose))
        found[dose], spent = _evaluated(run, command, plain, dose)
        seconds[f"dose {percent(dose)}"] = spent
    injection = _report(run, found, plain)
    injection.save(run.path)
    results = Results.load(run.results_file)
    title = f"A planted leak: {results.config['corpus']['name']}, model {run.path.name}"
    for name in PLOTS:
        plot_injection(injection, run.path / name, title=title)
    write_run_page(results, run.path)
    return {name: spent for name, spent in seconds.items() if spent}


def _evaluated(
    run: RunDirectory, command: EvaluateConfig, plain: EvalConfig, dose: float
) -> tuple[RunDirectory, float]:
    """Result directory of a dose, and the seconds spent; 0 if the results were stored already."""
    database = PlantedDatabaseConfig(
        plant_split=plain.split, plant_half=Half.first, plant_share=dose
    )
    out = FinishedRun(run, run.config()).with_database(database).out
    held = out.evaluation
    if held is not None and _without_probes(held) == _without_probes(eval_fields(plain)):
        return out, 0.0
    asked = dataclasses.replace(command, eval=plain, database=database, memory=MemoryConfig())
    _, spent = evaluate_one(run, asked)
    return out, sum((spent or {}).values())


def _without_probes(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in {*_PROBES, "plain"}}


def _report(run: RunDirectory, found: dict[float, RunDirectory], plain: EvalConfig) -> Injection:
    results = {dose: Results.load(out.results_file) for dose, out in found.items()}
    last = max(found)
    planted = found[last].planted or {}
    if "halves" not in planted:
        folder = found[last].path
        raise UserError(
            f"{folder} does not say which documents were planted",
            fix=f"move {folder} away and evaluate the run again",
        )
    halves = planted["halves"]
    doses = []
    for dose, out in found.items():
        database = results[dose].evaluation.database
        assert database is not None, "a run with retrieval searched something"
        doses.append(Dose(dose, database.planted, str(out.path), ChunkTable.load(out.chunks_file)))
    leakage = results[last].leakage
    return Injection(
        run_key=results[last].run_key,
        evaluation=eval_fields(plain),
        reference=leakage.reference,
        bootstrap=leakage.bootstrap,
        documents=[len(halves["first"]), len(halves["second"])],
        doses=figures_of(doses, halves["first"], leakage.bootstrap),
    )
