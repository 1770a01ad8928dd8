"""What a run's page says about the run in numbers: corpus, model, training, settings and links."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import baseline_of, run_name
from retro_lab.config.serialise import flatten, from_plain
from retro_lab.store.checksums import is_changed

from ...records.results import Results
from ..table import Table

MODEL_FILE = "model.json"
_INSIDE = ("databases", "evaluations")
"""Folders of a run that hold the results of other databases and of further evaluations."""
_PLACES = ("runs_dir", "store", "logger", "prepare", "resume")
"""Settings of where files lie and what is logged; they decide no figure."""


class Link(NamedTuple):
    """A link of a page: its text, its address, and what is found there."""

    name: str
    href: str
    what: str


def names_of(folder: Path) -> list[str]:
    """The run's name, then those of the database and evaluation whose results the folder holds."""
    path = folder.absolute()
    if path.parent.name in _INSIDE:
        return [*names_of(path.parents[1]), path.name]
    return [path.name]


def corpus_table(results: Results) -> Table:
    """Size of the corpus and of the searched database."""
    data, config = results.data, results.config
    name = _of(config, "corpus", "name")
    rows = [
        *([] if name is None else [["corpus", str(name)]]),
        ["documents, all splits", f"{data.documents:,}"],
        ["bytes", f"{data.bytes:,}"],
        ["tokens", f"{data.tokens:,}"],
        ["chunks", f"{data.chunks:,}"],
    ]
    searched = results.evaluation.database
    if searched is not None:
        rows += [
            ["database searched", searched.name],
            ["its documents", f"{searched.documents:,}"],
            ["its chunks", f"{searched.chunks:,}"],
        ]
    if data.recall_at_10 is not None:
        rows.append(["recall@10 of the search", f"{data.recall_at_10:.3f}"])
    return Table(["number", "value"], rows, "Corpus")


def model_table(results: Results, folder: Path) -> Table:
    """Sizes of the model and of its training; parameters if the folder has an intact model.json."""
    config, rows = results.config, []
    counted = _model(folder).get("parameters", {})
    words = {
        "total": "parameters",
        "embeddings": "in embeddings",
        "retrieval": "in retrieval, with embeddings",
    }
    rows += [[words[k], f"{counted[k]:,}"] for k in words if isinstance(counted.get(k), int)]
    named = {
        "model": ("model", "name"),
        "layers": ("model", "num_layers"),
        "width": ("model", "d_model"),
        "heads": ("model", "num_heads"),
        "retriever": ("retriever", "name"),
        "neighbours a chunk": ("neighbours", "k"),
        "tokens a chunk": ("chunking", "chunk_size"),
        "tokens a window": ("chunking", "sequence_length"),
        "steps, before retrieval": ("schedule", "steps"),
        "windows a step": ("schedule", "batch_size"),
        "seed": ("seed",),
    }
    found = {name: _of(config, *path) for name, path in named.items()}
    rows += [[name, str(value)] for name, value in found.items() if value is not None]
    if "training" in results.timing:
        rows.append(["seconds of training", f"{results.timing['training']:,.0f}"])
    cpu = results.environment.get("cpu")
    gpus = results.environment.get("gpus") or []
    rows += [["evaluated on", ", ".join(map(str, gpus or [cpu]))]] if cpu or gpus else []
    return Table(["number", "value"], rows, "Model and training")


def settings_table(results: Results) -> Table:
    """Every setting that can decide a figure, by its key."""
    told = {name: value for name, value in results.config.items() if name not in _PLACES}
    rows = [
        [key, "null" if value is None else str(value)]
        for key, value in flatten(told).items()
        if not key.endswith("schema")
    ]
    return Table(["setting", "value"], rows, "Settings, as a command line takes them")


def compared_links(results: Results, folder: Path) -> list[Link]:
    """Links to the plain model's and the baseline's folders, where they stand beside the run."""
    names = {} if results.plain is None else {"plain model": results.plain.run}
    try:
        config = from_plain(results.config)
        if config.retriever.retrieves and config.baseline is not None:
            names["baseline"] = run_name(baseline_of(config))
    except (UserError, ValueError, KeyError, TypeError):
        pass  # an older configuration has no name that we could compute
    words = {
        "plain model": "as many training tokens, no retrieval",
        "baseline": "before retrieval was added",
    }
    found = []
    for what, name in names.items():
        path = next((p / name for p in folder.absolute().parents[:3] if (p / name).is_dir()), None)
        if path is not None:
            page = path / "index.html"
            href = os.path.relpath(page if page.is_file() else path, folder.absolute())
            found.append(Link(name, Path(href).as_posix(), f"{what}: {words[what]}"))
    return found


def _of(config: Mapping[str, Any], *path: str) -> Any:
    for name in path:
        config = config.get(name, {}) if isinstance(config, Mapping) else {}
    return None if config == {} else config


def _model(folder: Path) -> dict[str, Any]:
    """The content of model.json; empty if it is missing, or not as the run wrote it."""
    path = folder / MODEL_FILE
    try:
        return {} if is_changed(path) else orjson.loads(path.read_bytes())
    except (OSError, ValueError, UserError):
        return {}
