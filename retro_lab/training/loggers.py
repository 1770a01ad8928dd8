"""Loggers of training metrics: metrics.jsonl always; W&B, CSV and TensorBoard if configured."""

from __future__ import annotations

import logging
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from csv import DictWriter
from pathlib import Path
from typing import Any

import orjson
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from retro_lab.config.errors import UserError
from retro_lab.config.files import replacing
from retro_lab.config.refusals import writing
from retro_lab.config.schema import LoggerConfig, TensorboardConfig, WandbConfig

from .wandb_access import access, own_settings
from .wandb_run import STEP, RunIdentity, record, start

LOG = logging.getLogger("retro_lab")
METRICS = "metrics.jsonl"


class FileLogger(Logger):
    """Base class of loggers that write one file of the run directory."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """The run directory holds the configuration already."""


class JsonlLogger(FileLogger):
    """Writes a JSON object a line: `step` (optimiser steps done), `time` (Unix seconds), metrics.

    Args:
        path: the file; lines after `resume_step` are removed, since a resumed run repeats them.
        resume_step: steps done already; 0 empties the file.
    """

    def __init__(self, path: Path, resume_step: int = 0) -> None:
        super().__init__(path)
        self._prepare(resume_step)

    @rank_zero_only
    def _prepare(self, resume_step: int) -> None:
        kept = [r for r in read_metrics(self.path) if r["step"] <= resume_step and resume_step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as draft:
            draft.write_bytes(b"".join(_line(record) for record in kept))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        record = {"step": step, "time": round(time.time(), 3), **metrics}
        with writing(self.path), self.path.open("ab") as file:
            file.write(_line(record))


def _line(record: Mapping[str, Any]) -> bytes:
    return orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Records of a metrics.jsonl.

    An incomplete last line, left by a crash, is skipped; other invalid lines with a warning.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        record = _record(line)
        if record is None:
            LOG.warning("%s, line %d: no record of a training step; it is skipped", path, number)
        else:
            records.append(record)
    return records


def _record(line: bytes) -> dict[str, Any] | None:
    """A line's record; None if the line is damaged."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    numbers = all(value is None or isinstance(value, (int, float)) for value in record.values())
    return record if numbers else None


class CsvLogger(FileLogger):
    """Writes metrics.csv: the records of metrics.jsonl as one table, a column a metric.

    Args:
        path: the CSV file.
        source: the JSON lines.
        flush_every: records between rewrites; the file is complete when training ends.
    """

    def __init__(self, path: Path, source: Path, flush_every: int) -> None:
        super().__init__(path)
        self.source = source
        self.flush_every = flush_every
        self._pending = 0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._pending += 1
        if self._pending >= self.flush_every:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        self._pending = 0
        records = read_metrics(self.source)
        columns = list(dict.fromkeys(name for record in records for name in record))
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


def check_loggers(config: LoggerConfig) -> None:
    """Checks the W&B settings before anything is computed.

    Raises:
        UserError: W&B must be online and cannot be, or its settings are invalid.
    """
    if config.wandb is not None and rank_zero_only.rank == 0:
        access(config.wandb.mode, own_settings())


def build_loggers(
    config: LoggerConfig, run_dir: Path, identity: RunIdentity, *, resume_step: int = 0
) -> list[Logger]:
    """The configured loggers, metrics.jsonl first.

    Args:
        identity: name, configuration and lineage of the run, for W&B.
        resume_step: optimiser steps done already; above 0 the W&B run is resumed.

    Raises:
        UserError: a logger's package is missing, or W&B must be online and cannot be.
    """
    metrics = run_dir / METRICS
    loggers: list[Logger] = [JsonlLogger(metrics, resume_step)]
    if config.csv is not None:
        loggers.append(CsvLogger(run_dir / "metrics.csv", metrics, config.csv.flush_every))
    if config.tensorboard is not None:
        loggers.append(_tensorboard(config.tensorboard, run_dir, resume_step))
    if config.wandb is not None and rank_zero_only.rank == 0:
        loggers += _wandb(config.wandb, run_dir, identity, resume=resume_step > 0)
    return loggers


def close_loggers(loggers: Sequence[Logger], status: str = "success") -> None:
    """Closes the loggers and the W&B run, so that another run can begin in this process."""
    from pytorch_lightning.loggers import WandbLogger

    for logger in loggers:
        logger.finalize(status)
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=0 if status == "success" else 1)


def _tensorboard(config: TensorboardConfig, run_dir: Path, resume_step: int) -> Logger:
    try:
        from pytorch_lightning.loggers import TensorBoardLogger

        return TensorBoardLogger(
            run_dir,
            name="tensorboard",
            version="",
            log_graph=config.log_graph,
            default_hp_metric=False,
            purge_step=resume_step + 1 if resume_step else None,
        )
    except ModuleNotFoundError as error:
        raise UserError(
            "logger.tensorboard needs the package tensorboard, which is not installed",
            fix="pip install tensorboard",
        ) from error


def _wandb(
    config: WandbConfig, run_dir: Path, identity: RunIdentity, *, resume: bool
) -> list[Logger]:
    """A W&B logger with a new or resumed run; empty if W&B is disabled."""
    from pytorch_lightning.loggers import WandbLogger

    run = start(config, run_dir, identity, resume=resume)
    if run is None:
        return []
    record(run, run_dir)
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    return [WandbLogger(experiment=run, save_dir=run_dir)]
