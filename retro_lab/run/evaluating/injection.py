"""`evaluate.py run=... eval=injection`: plants growing shares of the test text in the database.

Every dose is an evaluation of the run with `database=planted`, stored under databases/ and reused.
The report reads their chunks.parquet; injection.json and its plot are written beside the results of
the command's evaluation. A memory reads the planted copies too.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import eval_fields, memory_fields
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
from retro_lab.evaluation.measure.injection import (
    Dose,
    Injection,
    figures_of,
    memory_figures_of,
)
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.report.injection_plot import plot_injection
from retro_lab.evaluation.report.injection_verdict import percent

from ..directory import RunDirectory
from ..finished import FinishedRun
from ..page import write_page
from .reevaluate import evaluate_one

LOG = logging.getLogger("retro_lab")
PLOTS = ("injection.png", "injection.svg")
_PROBES = {
    "random": False,
    "shuffled": False,
    "oracle": False,
    "max_run": None,
    "without_pointer": False,
    "by_expert": False,
    "tokens": False,
    "ngram": None,
}  # parts of an evaluation that the experiment turns off


def check_injection(run: RunDirectory, command: EvaluateConfig) -> None:
    """Checks the settings of a leak experiment before anything is evaluated.

    Raises:
        UserError: invalid settings, a run without retrieval, or a `database` besides the doses.
    """
    config = FinishedRun.open(run).with_command(command).config
    check(config)
    told = _of_doses(run, command)
    dose = FinishedRun.open(run).with_command(told).config
    check(dataclasses.replace(dose, database=_planted(told.eval, 1.0)))
    if dose.memory != config.memory:
        LOG.warning(
            "the doses are scored without memory=%s: knn searches the training split alone",
            config.memory.name,
        )
    if not config.retriever.retrieves:
        raise UserError(
            f"{run.path} is a baseline: it reads no neighbours, so no leak can reach it",
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
    told = _of_doses(run, command)
    seconds: dict[str, float] = {}
    found: dict[float, RunDirectory] = {}
    for dose in sorted({0.0, *command.eval.injection.doses}):
        LOG.info("%s of the first half planted", percent(dose))
        found[dose], spent = _evaluated(run, told, dose)
        seconds[f"dose {percent(dose)}"] = spent
    injection = _report(run, found, told.eval)
    out = FinishedRun.open(run).with_command(command).results_in
    injection.save(out.path)
    results = Results.load(out.results_file)
    title = f"A planted leak: {results.config['corpus']['name']}, model {run.path.name}"
    for name in PLOTS:
        plot_injection(injection, out.path / name, title=title)
    write_page(out)
    return {name: spent for name, spent in seconds.items() if spent}


def _of_doses(run: RunDirectory, command: EvaluateConfig) -> EvaluateConfig:
    """The command of each dose: without the parts that the report leaves out, and without a memory
    that cannot search planted copies."""
    off = {"pages": 0, "rivals": RivalsConfig(), "injection": InjectionConfig(), **_PROBES}
    told = dataclasses.replace(command, eval=dataclasses.replace(command.eval, **off))
    if "knn" in FinishedRun.open(run).with_command(told).config.memory.experts:
        return dataclasses.replace(told, memory=MemoryConfig())
    return told


def _evaluated(
    run: RunDirectory, command: EvaluateConfig, dose: float
) -> tuple[RunDirectory, float]:
    """Result directory of a dose, and the seconds spent; 0 if the results were stored already."""
    database = _planted(command.eval, dose)
    asked = dataclasses.replace(command, database=database)
    opened = FinishedRun.open(run).with_command(asked).with_database(database)
    out = opened.results_in
    held, wanted = out.evaluation, eval_fields(asked.eval, memory=memory_fields(opened.config))
    if held is not None and _without_probes(held) == _without_probes(wanted):
        return out, 0.0
    _, spent = evaluate_one(run, asked)
    return out, sum((spent or {}).values())


def _planted(evaluation: EvalConfig, dose: float) -> PlantedDatabaseConfig:
    """The training split with copies of a share of the first half of the scored documents."""
    return PlantedDatabaseConfig(
        plant_split=evaluation.split, plant_half=Half.first, plant_share=dose
    )


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
    given = doses, halves["first"], leakage.bootstrap
    return Injection(
        run_key=results[last].run_key,
        evaluation=eval_fields(plain),
        reference=leakage.reference,
        bootstrap=leakage.bootstrap,
        documents=[len(halves["first"]), len(halves["second"])],
        doses=figures_of(*given),
        memory=memory_figures_of(*given),
    )
