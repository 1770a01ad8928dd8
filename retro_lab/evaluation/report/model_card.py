"""The model card of an exported run: description, scores, usage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..measure.conditions import label
from ..measure.metrics import Score
from ..records.results import Results
from .pages.render import render
from .table import Table

_CONDITIONS = {
    "on": "RETRO[ON], reads its neighbours",
    "off": "backbone, the same model without them",
    "random": "RETRO[random], reads random neighbours",
    "filtered": "RETRO[filtered], leaky neighbours replaced",
    "baseline": "baseline, no retrieval parts",
}
_RECIPE = ("model", "recipe", "chunking", "neighbours", "optim", "schedule")


def model_card(results: Results, name: str, licence: str, *, database: bool = False) -> str:
    """README.md of a model folder, with the fields that the Hugging Face hub reads.

    Args:
        results: results of the run.
        name: name of the folder.
        licence: licence of the weights, as the hub spells it.
        database: whether the folder also holds the database.
    """
    config, scores = results.config, results.metrics[results.evaluation.split]
    backbone = config["recipe"].get("backbone")
    return render(
        "README.md.j2",
        name=name,
        licence=licence,
        config=config,
        chunk_size=config["chunking"]["chunk_size"],
        backbone=backbone and _short(backbone),
        retrieval="on" in scores,
        database=database,
        index=yaml.safe_dump(_model_index(results, name), sort_keys=False),
        figures=_figures(scores).markdown(),
        score=next(iter(scores.values())),
        evaluation=results.evaluation,
        run_key=results.run_key[:8],
        recipe=[f"{key}: {_settings(config[key])}" for key in _RECIPE if key in config],
    )


def _model_index(results: Results, name: str) -> dict[str, Any]:
    """The figures as the hub's metadata `model-index`: bits per byte of the model as it is used."""
    scores, split = results.metrics[results.evaluation.split], results.evaluation.split
    score = scores["on"] if "on" in scores else next(iter(scores.values()))
    corpus = str(results.config["corpus"]["name"])
    metrics = [
        {"type": "bits_per_byte", "value": round(score.bpb, 4), "name": "bits per byte"},
        {"type": "perplexity", "value": round(score.ppl, 2), "name": "perplexity a token"},
    ]
    task = {"type": "text-generation", "name": "language modelling"}
    dataset = {"type": corpus, "name": corpus, "split": split}
    found = {"task": task, "dataset": dataset, "metrics": metrics}
    return {"model-index": [{"name": name, "results": [found]}]}


def _figures(scores: dict[str, Score]) -> Table:
    rows = []
    for name, score in scores.items():
        figures = f"{score.loss:.4f}", f"{score.ppl:.2f}", f"{score.bpb:.4f}"
        rows.append([_CONDITIONS.get(name, label(name)), *figures])
    return Table(["condition", "nats/token", "perplexity", "bits/byte"], rows)


def _settings(group: dict[str, Any]) -> str:
    def text(name: str, value: Any) -> str:
        if isinstance(value, dict):
            return f"{name}=({_settings(value)})"
        return f"{name}={_short(value) if name == 'backbone' and value else value}"

    return ", ".join(text(name, value) for name, value in group.items())


def _short(backbone: str) -> str:
    """The name of a backbone; a local folder is shortened to its last part, to hide its path."""
    path = Path(backbone).expanduser()
    return path.name if path.is_absolute() or path.exists() else backbone
