"""Runs lm-eval's tasks, also on local files, and returns lm-eval's metrics as a record."""

from __future__ import annotations

import difflib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from datasets import Dataset
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from retro_lab.config.errors import UserError
from retro_lab.text.readers.files import SourceFile, json_objects, lines

ALIASES = {"wikitext": {"page": "text"}}
"""By task and field of the task, the field of local files that replaces a missing one."""

Record = dict[str, dict[str, dict[str, Any]]]
"""By task and metric: value, stderr (None if lm-eval gives none), higher_is_better, samples."""


class Tasks:
    """The tasks of one evaluation.

    Args:
        names: names of tasks in lm-eval.
        files: by task, a local file of its documents.

    Raises:
        UserError: a task is unknown, or a file is missing or malformed.
    """

    def __init__(self, names: Sequence[str], files: Mapping[str, str]) -> None:
        self.names = list(names)
        self.documents = {
            name: read_documents(f"eval.files.{name}", path, ALIASES.get(name, {}))
            for name, path in files.items()
        }
        self.manager = _manager()
        for name in self.names:
            if name not in self.manager.task_index:
                near = difflib.get_close_matches(name, self.manager.all_tasks, n=3)
                fix = f"did you mean {' or '.join(near)}?" if near else "lm-eval ls tasks"
                raise UserError(f"eval.tasks: lm-eval has no task {name}", fix=fix)

    def evaluate(self, model: LM, *, limit: int | None, bootstrap_samples: int) -> Record:
        """lm-eval's metrics of a model.

        Raises:
            UserError: a dataset cannot be loaded, or local documents do not fit the task.
        """
        run: Any = simple_evaluate  # its decorator hides its parameters
        with _quiet():
            tasks: list[Any] = [task for name in self.names for task in self._load(name)]
            results = run(
                model,
                tasks=tasks,
                task_manager=self.manager,
                limit=limit,
                bootstrap_iters=bootstrap_samples,
                log_samples=False,
            )
        assert results is not None, "there is one process"
        return _record(results)

    def _load(self, name: str) -> list[Task]:
        """Loads a task, or the tasks of a group; lm-eval reads their first documents here."""
        local = name in self.documents
        try:
            loaded = self._from_file(name) if local else self.manager.load([name])
        except UserError:
            raise
        except Exception as error:  # tasks and the hub's client raise errors of any kind
            reason = (str(error).strip().splitlines() or [""])[0]
            reason = f"{type(error).__name__}: {reason}"
            if not local:
                raise UserError(
                    f"the data of the task {name} can't be loaded: {reason}",
                    fix=f"eval.files.{name}=<its documents as JSON lines>, or check the network",
                ) from error
            raise UserError(
                f"eval.files.{name}: these are not documents of the task ({reason}); their fields "
                f"are {', '.join(self.documents[name][0])}",
                fix="give them the fields of the task's own data set",
            ) from error
        return list(loaded["tasks"].values())

    def _from_file(self, name: str) -> Mapping[str, Any]:
        """Loads a task on local documents: a task definition that includes lm-eval's own."""
        entry = self.manager.task_index[name]
        if entry.yaml_path is None or entry.kind.name != "TASK":
            raise UserError(
                f"eval.files.{name}: {name} is not a single task that is defined by a file",
                fix="name the tasks of a group one by one, each with a file of its own",
            )
        definition = {
            "include": str(entry.yaml_path),
            "task": name,
            **dict.fromkeys(("training_split", "validation_split", "fewshot_split")),
            "test_split": _SPLIT,
            "dataset_kwargs": {"name": name},
        }
        function = f"custom_dataset: !function {__name__}.local_dataset\n"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.yaml"
            file.write_text(yaml.safe_dump(definition) + function, encoding="utf-8")
            _LOCAL[name] = self.documents[name]
            try:
                return self.manager.load([str(file)])
            finally:
                del _LOCAL[name]


@cache
def _manager() -> TaskManager:
    """lm-eval's index of its tasks; cached, since reading it takes seconds."""
    with _quiet():
        return TaskManager()


_SPLIT = "local"
_LOCAL: dict[str, list[dict[str, Any]]] = {}  # by task, its documents while it is loaded


def local_dataset(name: str, **_: Any) -> dict[str, Dataset]:
    """The documents of a task, called by lm-eval instead of a download from the hub."""
    return {_SPLIT: Dataset.from_list(_LOCAL[name])}


def read_documents(key: str, path: str, aliases: Mapping[str, str]) -> list[dict[str, Any]]:
    """Reads the documents of a JSON lines file, plain or compressed (.gz, .zst).

    Args:
        key: config key of the file, for messages.
        aliases: by field, the field that replaces it if a document lacks it.

    Raises:
        UserError: the file is missing or empty, or a line lacks a field of the first line.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{key}={path}: no such file", fix=f"set {key} to a file of JSON lines")
    documents: list[dict[str, Any]] = []
    rows = lines(SourceFile(file.name, file, None))
    for number, record in json_objects(rows, str(file), "give one JSON object a line"):
        place = f"{file}, line {number}"
        record = {field: record[own] for field, own in aliases.items() if own in record} | record
        missing = [field for field in (documents[0] if documents else ()) if field not in record]
        if missing:
            raise UserError(
                f"{place}: no field {missing[0]!r}, which the documents before it have",
                fix="give all documents the same fields",
            )
        first = documents[0] if documents else record
        empty = [name for name in first if record[name] is None and first[name] is not None]
        if empty:
            raise UserError(
                f"{place}: the field {empty[0]!r} is null, and the first document has a value",
                fix="give it a value, or leave the document out",
            )
        documents.append(record)
    if not documents:
        raise UserError(f"{key}={path}: the file has no documents", fix="give it one a line")
    return documents


def _record(results: Mapping[str, Any]) -> Record:
    """lm-eval's results by task and metric; a filter other than `none` is part of the name."""
    record: Record = {}
    for task, figures in results["results"].items():
        higher = results["higher_is_better"].get(task, {})
        samples = results["n-samples"].get(task, {}).get("effective")
        for key, value in figures.items():
            metric, comma, filter_name = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            stderr = figures.get(f"{metric}_stderr,{filter_name}")
            name = metric if filter_name == "none" else f"{metric}, {filter_name}"
            record.setdefault(task, {})[name] = {
                "value": float(value),
                "stderr": float(stderr) if isinstance(stderr, (int, float)) else None,
                "higher_is_better": higher.get(metric),
                "samples": samples,
            }
    return record


_init = tqdm.__init__


def _no_bar(self: tqdm, *args: Any, **kwargs: Any) -> None:
    _init(self, *args, **(kwargs | {"disable": True}))


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses lm-eval's output and progress bars, but not its errors."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), patch.object(tqdm, "__init__", _no_bar):
            yield
    finally:
        logger.setLevel(level)
