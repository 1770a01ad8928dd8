"""Runs of the recipe study as one figure of curves and one table (docs/recipes.md says of what).

    python benchmarks/ablations.py runs --out docs/figures/ablations.png --table docs/ablations.md

Reads config.yaml, metrics.jsonl, results.json and chunks.parquet of every finished run in the
folder. Runs are one recipe when `recipe.name` is equal, and may differ in nothing but the seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ablation_study import (
    Ablation,
    Curve,
    ablation,
    in_study_order,
    markdown_table,
    plot_ablations,
    same_text,
    tokens_text,
)

from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError
from retro_lab.config.fingerprints import (
    baseline_of,
    plain_of,
    run_key,
    run_name,
    steps_of,
)
from retro_lab.config.schema import Config, Method
from retro_lab.evaluation.measure.statistics import Bootstrap
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.run.directory import RunDirectory
from retro_lab.training.loggers import METRICS, read_metrics

REFERENCE = "retrofit"  # the default recipe, drawn in every panel
CONDITIONS = ("on", "off")


def main(argv: Sequence[str]) -> int:
    """Exit code of `ablations.py <argv>`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, help="folder of run directories")
    parser.add_argument("--out", type=Path, required=True, help="the figure, a PNG")
    parser.add_argument("--table", type=Path, required=True, help="the table, Markdown")
    options = parser.parse_args(argv)
    try:
        study = Study(options.runs)
        found = in_study_order([study.ablation(name) for name in study.recipes])
        for path in (options.out, options.table):
            path.parent.mkdir(parents=True, exist_ok=True)
        curves = {row.recipe: study.curve(row) for row in found}
        plot_ablations(curves, options.out, title=study.title, reference=REFERENCE)
        options.table.write_text(_page(study, found, options.out, options.table), encoding="utf-8")
    except UserError as error:
        print_error(str(error))
        return EXIT_USER_ERROR
    print(markdown_table(found), end="")
    print(f"figure  {options.out}\ntable   {options.table}")
    return 0


class Study:
    """The finished runs of a folder.

    Attributes:
        recipes: by name and seed, each run with its configuration.

    Raises:
        UserError: no run with retrieval, or two runs of one recipe that differ in more than the
            seed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipes: dict[str, dict[int, tuple[RunDirectory, Config]]] = defaultdict(dict)
        for path in sorted(folder.glob("*/results.json")):
            run = RunDirectory(path.parent)
            config = run.config()
            if run.reached("finished") and config.retriever.retrieves:
                self._add(run, config)
        if not self.recipes:
            raise UserError(
                f"no finished run with retrieval in {folder}",
                fix="python train.py -m experiment=recipe/default,recipe/no_pointer seed=0,1,2",
            )

    def _add(self, run: RunDirectory, config: Config) -> None:
        seeds = self.recipes[config.recipe.name]
        alike = next(iter(seeds.values()), (run, config))[1]
        if config.seed in seeds or run_key(dataclasses.replace(alike, seed=config.seed)) != run_key(
            config
        ):
            other = next(iter(seeds.values()))[0].path
            raise UserError(
                f"{other} and {run.path} both have recipe.name={config.recipe.name}, but differ in "
                "more than the seed",
                fix="give each its own recipe.name, or a folder of its own (runs_dir=...)",
            )
        seeds[config.seed] = run, config

    @property
    def config(self) -> Config:
        """Of the default recipe, or else of any."""
        named = self.recipes.get(REFERENCE) or next(iter(self.recipes.values()))
        return next(iter(named.values()))[1]

    @property
    def title(self) -> str:
        config = self.config
        model, corpus = config.model.name, config.corpus.name
        return f"Learning to use neighbours: model {model}, corpus {corpus}"

    @property
    def bootstrap(self) -> Bootstrap:
        settings = self.config.eval
        return Bootstrap(settings.bootstrap_samples, settings.confidence, settings.seed)

    def ablation(self, name: str) -> Ablation:
        """The pooled figures of one recipe."""
        runs = self.recipes[name]
        config = next(iter(runs.values()))[1]
        retrofit = config.recipe.method is Method.retrofit
        before, steps = config.schedule.steps, config.recipe.steps
        return ablation(
            name,
            {seed: self._table(*entry) for seed, entry in runs.items()},
            baseline_tokens=before * tokens_a_step(config) if retrofit else 0,
            tokens=(steps if retrofit else before) * tokens_a_step(config),
            bootstrap=self.bootstrap,
        )

    def _table(self, run: RunDirectory, config: Config) -> ChunkTable:
        """The run's chunks; one evaluated without its plain model takes that one's own scores."""
        table = ChunkTable.load(run.chunks_file)
        plain = RunDirectory(self.folder / run_name(plain_of(config, steps_of(config))))
        if "plain" in table.nats or not plain.chunks_file.is_file():
            return table
        other = ChunkTable.load(plain.chunks_file)
        if not same_text(table, other):
            return table
        return dataclasses.replace(table, nats={**table.nats, "plain": other.nats["baseline"]})

    def curve(self, row: Ablation) -> Curve:
        """Validation during training, at the steps that all seeds have."""
        entries = [self.recipes[row.recipe][seed] for seed in row.seeds]
        config = entries[0][1]
        by_seed = [validations(run) for run, _ in entries]
        steps = sorted(set.intersection(*(set(found) for found in by_seed)))
        if not steps:
            raise UserError(
                f"{entries[0][0].path / METRICS} has no validation with retrieval",
                fix="train with a validation split (corpus.split.validation)",
            )
        bpb = {
            condition: np.array([[found[step][condition] for step in steps] for found in by_seed])
            for condition in CONDITIONS
        }
        levels = [self._baseline_level(entry_config) for _, entry_config in entries]
        known = [level for level in levels if level is not None]
        return Curve(
            seeds=row.seeds,
            tokens=np.array(steps) * tokens_a_step(config),
            bpb=bpb,
            baseline=np.array(known) if len(known) == len(levels) else None,
            note=_note(row),
        )

    def _baseline(self, config: Config) -> RunDirectory | None:
        """The baseline that a run compares with."""
        path = self.folder / run_name(baseline_of(config))
        return RunDirectory(path) if path.is_dir() else None

    def _baseline_level(self, config: Config) -> float | None:
        """The baseline's last validation, on the windows that the curves show."""
        run = self._baseline(config)
        records = [] if run is None else read_metrics(run.path / METRICS)
        return next((r["val/bpb"] for r in reversed(records) if "val/bpb" in r), None)


def tokens_a_step(config: Config) -> int:
    """Positions of a batch."""
    return config.schedule.batch_size * config.chunking.sequence_length


def validations(run: RunDirectory) -> dict[int, dict[str, float]]:
    """By step, bits per byte of RETRO on and off on the validation windows."""
    return {
        record["step"]: {name: record[f"val/{name}/bpb"] for name in CONDITIONS}
        for record in read_metrics(run.path / METRICS)
        if all(f"val/{name}/bpb" in record for name in CONDITIONS)
    }


def _note(row: Ablation) -> str:
    words = {True: "gain", False: "no gain", None: "gain not measured"}
    gate = {True: "copies", False: "does not copy", None: ""}[row.gate]
    seeds = f"{len(row.seeds)} seed{'s' * (len(row.seeds) > 1)}"
    return ", ".join(part for part in (words[row.gain], gate, seeds) if part)


def _page(study: Study, found: Sequence[Ablation], figure: Path, table: Path) -> str:
    config, documents = study.config, found[0].differences[("on", "off")].documents
    link = os.path.relpath(figure, table.parent)
    confidence = f"{100 * config.eval.confidence:g} %"
    return f"""# Ablations: learning to use neighbours

Written by `python benchmarks/ablations.py {study.folder.name} --out {figure} --table {table}` from
the runs of `conf/experiment/recipe/`; what each changes, and what gate and gain mean, stands in
[recipes.md](recipes.md).

![validation bits per byte against tokens, a panel a recipe]({link})

Model `{config.model.name}`, corpus `{config.corpus.name}`, {config.eval.split} split,
{documents} documents, bits per byte. Figures are means over seeds. Intervals ({confidence}) come
from a bootstrap over documents and seeds: a resample draws documents once for all seeds, and seeds
with replacement. Tokens are the baseline's and then those with retrieval; `{tokens_text(found[0])}`
is what `{found[0].recipe}` read; the plain model has read both. A gain is one over the plain model
and over random neighbours. Largest gain first.

{markdown_table(found)}"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
