"""Sends an evaluation's figures to the loggers that the run was trained with."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from retro_lab.config.schema import Config
from retro_lab.evaluation.measure.conditions import in_order, label
from retro_lab.evaluation.measure.leakage import Leakage
from retro_lab.evaluation.records.figures import curve_table, figures
from retro_lab.evaluation.records.results import CHUNKS_FILE, RESULTS_FILE, Results
from retro_lab.evaluation.report.verdict import verdict

from .loggers import METRICS, build_loggers, close_loggers, read_metrics
from .wandb_access import Agent
from .wandb_run import STEP, RunIdentity

LOG = logging.getLogger(__name__)
PLOT_FILE = "leakage.png"
TOKENS_SEEN = "tokens_seen"


def publish(
    results: Results,
    config: Config,
    run_dir: Path,
    results_dir: Path,
    *,
    lineage: dict[str, str],
    agent: Agent | None = None,
) -> None:
    """Logs an evaluation to the run's loggers at its last step; errors only give a warning.

    Args:
        config: of the run, with its loggers.
        run_dir: the run directory.
        results_dir: the result directory; another database's name prefixes the figures' names.
        lineage: key of each data stage behind the run.
        agent: the W&B sweep run to log to, in place of the run's own.
    """
    last = last_figures(run_dir)
    step = int(last.pop("step", 0))
    place = results_dir.relative_to(run_dir).parts
    prefix = f"{place[1]}/" if place[:1] == ("databases",) else ""
    identity = RunIdentity.of(config, run_dir.name, results.run_key, lineage=lineage)
    identity = dataclasses.replace(identity, agent=agent)
    try:
        loggers = build_loggers(config.logger, run_dir, identity, resume_step=step)
        status = "failed"
        try:
            found = {f"{prefix}{name}": value for name, value in figures(results).items()}
            row = {name: last[name] for name in (TOKENS_SEEN,) if name in last} | found
            for logger in loggers:
                logger.log_metrics(row, step=step)
                if isinstance(logger, WandbLogger):
                    _fill(logger.experiment, results, results_dir, prefix, {**last, **found}, step)
            status = "success"
        finally:
            close_loggers(loggers, status)
    except Exception as error:
        LOG.warning(
            "the figures are in %s, but could not be logged: %s", results_dir / RESULTS_FILE, error
        )


def last_figures(run_dir: Path) -> dict[str, float]:
    """The last value of each curve of a run, and its last `step`; empty without curves."""
    last: dict[str, float] = {}
    for line in read_metrics(run_dir / METRICS):
        last |= {name: value for name, value in line.items() if value is not None}
    last.pop("time", None)
    return last


def _fill(
    run: Any,
    results: Results,
    folder: Path,
    prefix: str,
    summary: Mapping[str, float],
    step: int,
) -> None:
    """Logs summary, verdict, table, chart, plot and result files, which only W&B supports.

    Args:
        run: the W&B run.
        folder: the result directory.
        summary: every figure, including training metrics, since the last part of a run that is
            synchronised in parts overwrites the summary.
    """
    import wandb

    leakage, split = results.leakage, f"{prefix}{results.evaluation.split}"
    run.summary.update(dict(summary))
    if "on" in results.metrics[results.evaluation.split]:
        found = verdict(leakage, results.evaluation.max_run, results.compressors)
        run.summary[f"{split}/verdict"] = "\n".join(found.sentences)
    columns: Any
    data: Any
    columns, data = curve_table(leakage)
    logged: dict[str, Any] = {f"{split}/leakage/table": wandb.Table(columns, data)}
    logged[f"{split}/leakage/bpb"] = _chart(leakage)
    if (folder / PLOT_FILE).is_file():
        logged[f"{split}/leakage/plot"] = wandb.Image(str(folder / PLOT_FILE))
    run.log({**logged, STEP: step})
    artifact = wandb.Artifact(f"results-{run.id}", type="evaluation")
    # W&B would copy to the home folder, and with relative paths `wandb sync` works only from the
    # folder that this command was started in.
    copies = Path(run.dir).resolve() / "evaluation"
    copies.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS_FILE, CHUNKS_FILE):
        copy = shutil.copyfile(folder / name, copies / name)
        artifact.add_file(str(copy), name=f"{prefix}{name}", policy="immutable")
    run.log_artifact(artifact)


def _chart(leakage: Leakage) -> Any:
    """Line chart of bits per byte by overlap threshold alpha, one line a condition."""
    import wandb

    lines = {
        label(name): [(p.alpha, p.bpb) for p in leakage.curves[name] if p.bpb is not None]
        for name in in_order(leakage.curves)
    }
    return wandb.plot.line_series(
        xs=[[alpha for alpha, _ in points] for points in lines.values()],
        ys=[[bpb for _, bpb in points] for points in lines.values()],
        keys=list(lines),
        title="bits per byte of chunks with r(C) <= alpha",
        xname="alpha",
    )
