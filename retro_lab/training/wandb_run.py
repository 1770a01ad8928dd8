"""Starts or resumes a run in W&B, with its identity and metadata."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import baseline_of, run_fields
from retro_lab.config.schema import Config, WandbConfig, WandbMode
from retro_lab.config.serialise import to_plain
from retro_lab.evaluation.records.record_file import write_json

from .wandb_access import Access, Agent, access, own_settings

if TYPE_CHECKING:
    from wandb import Run, Settings

LOG = logging.getLogger(__name__)
RECORD = "wandb.json"
PROJECT = "retro_lab"
ID_DIGITS = 8  # as in the run directory's name
STEP = "trainer/global_step"  # Lightning's name for the optimiser steps done

# Seconds to wait for the server. W&B's defaults are 90 and, at the end of a run, unlimited; data
# not uploaded in time stays on disk for `wandb sync`.
INIT_TIMEOUT = 30.0
FINISH_TIMEOUT = 300.0

_COMPARED = ("corpus", "tokenizer", "model")  # equal for all runs of one comparison


@dataclass(frozen=True)
class RunIdentity:
    """Metadata of a run in W&B.

    Attributes:
        key: run key, hex digits.
        name: display name.
        job_type: baseline, plain, retro or report.
        group: name of the data and model size that compared runs share.
        config: configuration, lineage and parameter counts, as plain JSON values.
        agent: the `wandb agent`'s run to log into; None for other runs, such as baselines.
    """

    key: str
    name: str
    job_type: str = "retro"
    group: str | None = None
    config: dict[str, Any] | None = None
    agent: Agent | None = None

    @classmethod
    def of(
        cls,
        config: Config,
        name: str,
        key: str,
        *,
        lineage: dict[str, str],
        parameters: dict[str, int] | None = None,
        companion: str | None = None,
    ) -> RunIdentity:
        """The identity of a training run.

        Args:
            config: of the run.
            name: of its directory.
            key: the run key.
            lineage: key of each data stage behind the run.
            parameters: parameter counts; None if no model was built.
            companion: `baseline` or `plain` for a compared run; None for the requested run.
        """
        whole = {"run_key": key, "lineage": lineage, **to_plain(config)}
        if parameters is not None:
            whole["parameters"] = parameters
        return cls(
            key=key,
            name=name,
            job_type=companion or ("retro" if config.retriever.retrieves else "baseline"),
            group=group_of(config),
            config=_without_passwords(whole),
            agent=None if companion else Agent.of_environment(),
        )


def group_of(config: Config) -> str:
    """Name of data and model size, equal for a run and the runs that it is compared with."""
    fields = run_fields(baseline_of(config))
    shared = json.dumps({name: fields[name] for name in _COMPARED}, sort_keys=True)
    digest = hashlib.sha256(shared.encode()).hexdigest()[:6]
    return f"{config.corpus.name}-{config.model.name}-{digest}"


def start(
    config: WandbConfig,
    run_dir: Path,
    identity: RunIdentity,
    *,
    resume: bool = False,
    begin: Callable[..., Run] | None = None,
    settings: Settings | None = None,
    how: Callable[[WandbMode, Settings], Access] = access,
) -> Run | None:
    """Starts or resumes a W&B run; returns None if W&B is disabled.

    Args:
        run_dir: holds the folder `wandb`.
        resume: resume the run; else a run with the same id is replaced.
        begin: `wandb.init` by default.
        settings: W&B's own by default.
        how: decides between online, offline and disabled.

    Raises:
        UserError: for `mode=online` without a login, or if the server fails.
    """
    import wandb

    found = settings or own_settings()
    decided = how(config.mode, found)
    if decided is Access.disabled:
        return None
    begin = begin or wandb.init
    arguments = init_arguments(config, run_dir, identity, found, decided, resume=resume)
    if decided is Access.offline:
        return begin(**arguments)
    folders = set(run_dir.glob("wandb/run-*"))
    try:
        return begin(**arguments)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        if config.mode is WandbMode.online:
            raise UserError(
                f"logger.wandb.mode=online, but W&B did not take the run: {reason}",
                fix="logger.wandb.mode=auto logs offline until `wandb sync`",
            ) from error
        LOG.warning("W&B did not take the run, so it is logged offline: %s", reason)
    wandb.teardown()  # else the failed run's id stays taken
    for folder in set(run_dir.glob("wandb/run-*")) - folders:
        shutil.rmtree(folder, ignore_errors=True)
    found = settings or own_settings()
    return begin(**init_arguments(config, run_dir, identity, found, Access.offline, resume=resume))


def init_arguments(
    config: WandbConfig,
    run_dir: Path,
    identity: RunIdentity,
    settings: Settings,
    decided: Access,
    *,
    resume: bool,
) -> dict[str, Any]:
    """Keyword arguments for `wandb.init`.

    A resumed run keeps the id and project recorded at its start. Offline, it writes a second file
    with the same id, which `wandb sync` appends to the first.
    """
    import wandb

    before = recorded(run_dir) if resume else {}
    agent = identity.agent
    own = wandb.Settings(
        silent=True, console="off", init_timeout=INIT_TIMEOUT, finish_timeout=FINISH_TIMEOUT
    )
    if agent is not None:
        own.sweep_id = agent.sweep_id
    asked = (settings.project, config.project) if agent else (config.project, settings.project)
    projects = (before.get("project"), *asked, PROJECT)
    return {
        "id": agent.run_id if agent else before.get("id", identity.key[:ID_DIGITS]),
        "project": next(name for name in projects if name),
        "entity": before.get("entity") or (None if agent else config.entity) or settings.entity,
        "group": config.group or settings.run_group or identity.group,
        "job_type": before.get("job_type") or identity.job_type,
        "name": identity.name,
        "notes": config.notes or settings.run_notes,
        "tags": [*dict.fromkeys([*(settings.run_tags or ()), *config.tags])],
        "config": identity.config,
        "dir": str(run_dir),
        "mode": decided.value,
        "resume": "allow" if resume else None,
        "settings": own,
    }


def recorded(run_dir: Path) -> dict[str, str | None]:
    """Id, project, entity and job type recorded at the run's start; empty without a record."""
    try:
        record = orjson.loads((run_dir / RECORD).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return record if isinstance(record, dict) else {}


def record(run: Run, run_dir: Path) -> None:
    """Records the run's id and project in W&B, for later evaluations."""
    names = {"id": run.id, "project": run.project, "entity": run.entity or None}
    write_json({**names, "job_type": run.settings.run_job_type}, run_dir / RECORD)


def _without_passwords(value: Any) -> Any:
    """`value` with user and password removed from URLs, since W&B shows it to a whole team."""
    if isinstance(value, dict):
        return {name: _without_passwords(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_passwords(item) for item in value]
    if not isinstance(value, str) or "://" not in value or "@" not in value:
        return value
    parts = urlsplit(value)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
