"""`evaluate.py run=... eval=harness` and `eval=qa`: evaluate a finished run on external tasks.

The figures are written to harness.json and qa.json.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from rich.console import Console

from retro_lab.config.errors import UserError
from retro_lab.config.rules import check
from retro_lab.config.schema import (
    Config,
    DatabaseConfig,
    EvaluateConfig,
    HarnessConfig,
    QaConfig,
)
from retro_lab.evaluation.measure.conditions import label
from retro_lab.evaluation.records.environment import environment
from retro_lab.evaluation.report.benchmark_tables import harness_table, qa_tables
from retro_lab.evaluation.report.pages.run_page import PAGE_FILE

from ..compared import Compared, compared_runs
from ..directory import RunDirectory
from ..finished import FinishedRun
from ..page import write_page
from .conditions import Conditions

SCHEMA_VERSION = 1
HARNESS_FILE, QA_FILE = "harness.json", "qa.json"


def run_benchmark(run: RunDirectory, command: EvaluateConfig) -> None:
    """Evaluates a run on the requested tasks, records the figures and prints them.

    Raises:
        UserError: a run, task or file cannot be used.
    """
    opened = FinishedRun.open(run).with_command(command)
    compared = compared_runs(opened.config)
    opened = opened.with_database(command.database)
    check(opened.config)
    out, asked = opened.out, opened.config.eval
    if isinstance(asked, HarnessConfig):
        name, record = HARNESS_FILE, _harness(opened, asked, compared)
        tables = [harness_table(record, f"lm-eval, {_limit(asked.limit)}")]
    else:
        assert isinstance(asked, QaConfig)
        from .questions import answer_questions, with_passages

        opened, questions = with_passages(opened, asked)
        name, record = QA_FILE, answer_questions(opened, asked, questions, compared)
        tables = qa_tables(record)
    lock = run.acquire(wait=True)  # an evaluation may be writing there
    try:
        out.record(name, _common_fields(opened.config, run) | record)
        if out.results_file.is_file():
            write_page(out)
    finally:
        lock.release()
    _show(tables, opened.config, out, name)


def _harness(run: FinishedRun, asked: HarnessConfig, compared: Compared) -> dict[str, Any]:
    """lm-eval's figures by task, metric and condition.

    Raises:
        UserError: lm-eval is not installed.
    """
    if find_spec("lm_eval") is None:
        raise UserError("eval=harness needs the package lm-eval", fix='pip install -e ".[eval]"')
    from retro_lab.evaluation.tasks.harness import RunLM
    from retro_lab.evaluation.tasks.harness_tasks import Tasks

    tasks = Tasks(asked.tasks, asked.files)
    conditions = Conditions(run, compared)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in conditions.names:
        model = RunLM(
            conditions.scorer(name),
            conditions.writer(name),
            run.tokenizer,
            label(name),
        )
        figures = tasks.evaluate(
            model, limit=asked.limit, bootstrap_samples=asked.bootstrap_samples
        )
        for task, metrics in figures.items():
            for metric, figure in metrics.items():
                found.setdefault(task, {}).setdefault(metric, {})[name] = figure
    settings = {"tasks": asked.tasks, "files": asked.files, "limit": asked.limit}
    return {"settings": settings, "conditions": conditions.names, "tasks": found}


def _common_fields(config: Config, run: RunDirectory) -> dict[str, Any]:
    """Fields common to all benchmark records: the run and the settings of the measurement."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": str(run.path),
        "run_key": run.key,
        "environment": environment(),
        "database": config.database.in_words(),
        "memory": config.memory.name,
        "k": config.scored_k,
        "window": config.chunking.sequence_length,
        "stride": config.scored_stride,
    }


def _limit(limit: int | None) -> str:
    return "all documents" if limit is None else f"at most {limit:,} documents a task"


def _show(tables: list[Any], config: Config, out: RunDirectory, name: str) -> None:
    console = Console(highlight=False, soft_wrap=False)
    for table in tables:
        console.print()
        console.print(table)
    console.print()
    if config.database != DatabaseConfig():
        console.print(f"database: {config.database.in_words()}", highlight=False)
    for what, file in (("figures", name), ("page", PAGE_FILE)):
        if (out.path / file).is_file():
            console.print(f"{what:<7} {out.path / file}", soft_wrap=True)
