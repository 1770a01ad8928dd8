"""Contract: a model comes out of every option of every group that shapes it, on the meta device;
experiments are options as any other (`config/test_options.py`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from composed import config_of

from retro_lab.config.compose import load_config
from retro_lab.config.fingerprints import baseline_of, canonical, run_key
from retro_lab.config.keys import options
from retro_lab.config.rules import check
from retro_lab.config.schema import Config, MuonConfig, NoneRetrieverConfig
from retro_lab.config.serialise import from_plain, read_config, to_plain, write_config
from retro_lab.run.model import build_model, parameter_counts

GROUPS = ("model", "cca", "recipe", "chunking", "neighbours", "tokenizer")
CHOICES = [f"{group}={option}" for group in GROUPS for option in options(group)]


@pytest.mark.parametrize("choice", CHOICES)
def test_a_model_is_built_with_retrieval_and_without(choice: str) -> None:
    overrides = [choice]
    if choice == "cca=paper":
        overrides.append("model=base")  # six layers at least
    if choice == "tokenizer=hf":
        overrides.append("tokenizer.path=x")
    config = config_of(*overrides)
    assert built(config)["retrieval"] > 0
    assert built(replace(config, retriever=NoneRetrieverConfig()))["retrieval"] == 0


def built(config: Config) -> dict[str, int]:
    check(config)
    with torch.device("meta"):
        model = build_model(canonical(config))
    counts = parameter_counts(model)
    assert counts["total"] > counts["embeddings"] > 0
    return counts


@pytest.fixture(scope="module")
def experiments() -> dict[str, Config]:
    return {option: load_config([f"experiment={option}"]) for option in options("experiment")}


def test_every_experiment_builds_a_model(experiments: dict[str, Config]) -> None:
    assert len(experiments) > 20
    for option, config in experiments.items():
        assert (built(config)["retrieval"] > 0) == (option != "recipe/baseline_longer"), option


@pytest.mark.parametrize("option", options("experiment"))
def test_an_experiment_is_read_back(
    option: str, experiments: dict[str, Config], tmp_path: Path
) -> None:
    write_config(experiments[option], tmp_path / "config.yaml")
    again = read_config(tmp_path / "config.yaml")
    assert again == experiments[option]
    assert run_key(again) == run_key(experiments[option])


@pytest.fixture(scope="module")
def study(experiments: dict[str, Config]) -> dict[str, Config]:
    return {o: config for o, config in experiments.items() if o.startswith("recipe/")}


def test_the_study_has_a_name_for_each_of_its_runs(study: dict[str, Config]) -> None:
    """The figure and the table tell runs apart by `recipe.name`."""
    names = {option: config.recipe.name for option, config in study.items()}
    assert names.pop("recipe/default") == "retrofit"
    del names["recipe/baseline_longer"]  # without retrieval there is no recipe
    assert names == {option: option.removeprefix("recipe/") for option in names}


def test_ablations_share_the_baseline_that_they_leave_alone(study: dict[str, Config]) -> None:
    keys = {option: run_key(baseline_of(config)) for option, config in study.items()}
    apart = {option for option in study if keys[option] != keys["recipe/default"]}
    own = ("no_smear", "scratch", "scratch_pointer", "baseline_longer")
    assert apart == {f"recipe/{name}" for name in own}
    assert keys["recipe/scratch_pointer"] == keys["recipe/baseline_longer"]


def test_the_study_leaves_the_test_split_alone(study: dict[str, Config]) -> None:
    assert {config.eval.split for config in study.values()} == {"validation"}
    assert {config.corpus.split.test for config in study.values()} == {0.15}


def test_a_recipes_optimiser_leaves_the_baselines_alone() -> None:
    config = load_config(["optim@recipe.optim=muon", "recipe.optim.muon_lr=0.01"])
    assert isinstance(config.recipe.optim, MuonConfig)
    assert config.recipe.optim.muon_lr == 0.01
    assert not isinstance(config.optim, MuonConfig)
    assert from_plain(to_plain(config)) == config
