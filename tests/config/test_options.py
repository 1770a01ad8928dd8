"""Contract: every option of every group composes with the defaults, passes the checks, is typed
by a schema, is read back from a run directory as it was, is named as its file and says in its first
line what it is. (`app/test_every_option.py` says so of experiments, which it builds as well.)
"""

from __future__ import annotations

import dataclasses
from itertools import zip_longest
from pathlib import Path

import pytest
from composed import config_of, read_alone

from retro_lab.config.compose import compose_root, load_config, to_typed
from retro_lab.config.errors import ConfigError
from retro_lab.config.fingerprints import run_key
from retro_lab.config.keys import conf_dir, groups, options
from retro_lab.config.rules import check
from retro_lab.config.schema import SCHEMAS, CcaConfig, Config, EvaluateConfig, Placement
from retro_lab.config.serialise import read_config, write_config

CONF = conf_dir()
GROUPS = [group for group in groups() if group not in ("hydra", "local")]
OPTIONS = [
    (group, option) for group in GROUPS if group != "experiment" for option in options(group)
]
# What an option cannot do without.
NEEDS = {
    ("corpus", "jsonl"): ["corpus.path=a.jsonl"],
    ("corpus", "json"): ["corpus.path=a.json"],
    ("corpus", "csv"): ["corpus.path=a.csv"],
    ("corpus", "text"): ["corpus.path=folder"],
    ("corpus", "parquet"): ["corpus.path=a.parquet"],
    ("corpus", "hf"): ["corpus.path=owner/name"],
    ("corpus", "wikitext103"): ["corpus.path=wiki.train.raw"],
    ("database", "corpus"): ["database.corpus.path=a.jsonl"],
    ("embedder", "sentence_transformer"): ["embedder.model=owner/name"],
    ("tokenizer", "hf"): ["tokenizer.path=gpt2"],
    ("retriever", "custom"): ["retriever.cls=word_overlap:WordOverlap"],
    ("embedder", "custom"): ["embedder.cls=letters:Letters"],
    ("corpus", "custom"): ["corpus.cls=verses:VerseReader", "corpus.settings.path=a.txt"],
    ("corpus", "norlund"): ["corpus.path=a.json", "tokenizer=hf", "tokenizer.path=t5-base"],
    ("cca", "paper"): ["model=small"],
    ("eval", "harness"): ["eval.tasks=[lambada_openai]"],
    ("eval", "qa"): ["eval.questions=a.jsonl"],
}
# What it goes with.
GOES_WITH = {("retriever", "stored"): ["corpus=norlund", *NEEDS["corpus", "norlund"]]}
EXPECTED_GROUPS = """
model cca recipe chunking neighbours retriever embedder tokenizer corpus database plain memory optim
schedule trainer callbacks logger eval experiment sweep debug
"""


def test_groups_are_those_documented() -> None:
    assert set(GROUPS) == set(EXPECTED_GROUPS.split())


def typed(group: str, option: str) -> list[str]:
    """How the option is chosen, with what it needs."""
    return [f"{group}={option}", *(NEEDS | GOES_WITH).get((group, option), [])]


def side_by_side() -> list[list[tuple[str, str]]]:
    """Every option whose file says all about it: one of each group at a time.

    An option that needs one of another group stands alone.
    """
    lone, columns = [], []
    for group in GROUPS:
        mine = [(g, o) for g, o in OPTIONS if g == group and read_alone(g, o) is not None]
        chooses = [any(a.partition("=")[0] in GROUPS for a in typed(*pair)[1:]) for pair in mine]
        lone += [[pair] for pair, other in zip(mine, chooses, strict=True) if other]
        columns.append([pair for pair, other in zip(mine, chooses, strict=True) if not other])
    return lone + [[pair for pair in row if pair is not None] for row in zip_longest(*columns)]


@pytest.mark.parametrize("chosen", side_by_side(), ids=lambda row: f"{row[0][1]} of {len(row)}")
def test_hydra_composes_an_option_to_what_its_file_says(chosen: list[tuple[str, str]]) -> None:
    """Which makes `config_of`, that reads the file, as good as Hydra in all other tests."""
    config = load_config([override for pair in chosen for override in typed(*pair)])
    for group, option in chosen:
        read = config_of(*typed(group, option))
        assert getattr(config, group) == getattr(read, group), (group, option)
        if len(chosen) == 1:
            assert config == read


@pytest.mark.parametrize(
    "overrides",
    [
        ["debug=fast", "eval=exact", "embedder=hashing", "schedule.steps=7"],
        ["experiment=quick_check", "chunking=m64", "tokenizer=byte", "tokenizer=bpe"],
    ],
    ids=" ".join,
)
def test_what_is_read_goes_with_what_reaches_beyond_a_group(overrides: list[str]) -> None:
    """`debug=fast` has values of its own for `eval`, whichever option of it is chosen."""
    assert config_of(*overrides) == load_config(overrides)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_goes_with_the_defaults_and_is_read_back(
    group: str, option: str, tmp_path: Path
) -> None:
    config = config_of(*typed(group, option))
    check(config)
    node = getattr(config, group, None)
    if dataclasses.is_dataclass(node) and hasattr(node, "name"):
        assert node.name == option
    write_config(config, tmp_path / "config.yaml")
    again = read_config(tmp_path / "config.yaml")
    assert again == config
    assert run_key(again) == run_key(config)


@pytest.mark.parametrize(("group", "option"), [pair for pair in NEEDS if pair[0] != "cca"])
def test_options_without_a_default_say_what_they_need(group: str, option: str) -> None:
    key = NEEDS[group, option][0].partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{key} has no value") as caught:
        check(config_of("retriever=faiss_flat", f"{group}={option}"))
    assert f"{key}=<" in str(caught.value)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_file_opens_with_a_comment(path: Path) -> None:
    if "local" in path.parts:
        pytest.skip("belongs to this machine")
    lines = [line for line in path.read_text().splitlines() if "@package" not in line]
    assert lines[0].startswith("# ")


def test_every_schema_is_used_by_an_option() -> None:
    text = "\n".join(path.read_text() for path in CONF.rglob("*.yaml"))
    assert [path for path in SCHEMAS if f"/schema/{path}@" not in text] == []


def test_yaml_defaults_are_the_dataclass_defaults() -> None:
    """A program that builds `Config` itself gets the run that the command line would give."""
    config = load_config()
    for field in dataclasses.fields(Config):
        # W&B and a memory are the command line's defaults, not the library's.
        chosen = field.name in ("logger", "memory")
        if field.default_factory is not dataclasses.MISSING and not chosen:
            assert getattr(config, field.name) == field.default_factory(), field.name


@pytest.mark.parametrize(
    ("override", "present"),
    [
        ("logger=[wandb,csv]", {"wandb", "csv"}),
        ("logger=tensorboard", {"tensorboard"}),
        ("logger=none", set()),
        ("seed=2", {"wandb"}),
    ],
)
def test_loggers_combine(override: str, present: set[str]) -> None:
    logger = load_config([override]).logger
    assert {name for name, part in vars(logger).items() if part is not None} == present


@pytest.mark.parametrize(
    ("placement", "num_layers", "layers"),
    [
        ("first", 4, (1,)),
        ("mid", 4, (2,)),
        ("last", 4, (4,)),
        ("every_third", 4, (3,)),
        ("every_third", 2, (2,)),
        ("paper", 4, ()),
        ("paper", 12, (6, 9, 12)),
        ("paper", 16, (6, 9, 12, 15)),
        ("all", 2, (1, 2)),
    ],
)
def test_placements(placement: str, num_layers: int, layers: tuple[int, ...]) -> None:
    assert CcaConfig(Placement[placement]).placed(num_layers) == layers


def test_store_follows_the_environment_then_runs_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRO_LAB_STORE", raising=False)
    assert load_config(["runs_dir=/r"]).store.dir == "/r/.store"
    monkeypatch.setenv("RETRO_LAB_STORE", "/s")
    assert load_config(["runs_dir=/r"]).store.dir == "/s"
    assert load_config(["store.dir=/t"]).store.dir == "/t"


def test_evaluate_needs_only_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRO_LAB_STORE", raising=False)
    config = to_typed(compose_root("evaluate", ["run=runs/x", "eval=ppl"]), EvaluateConfig)
    assert (config.run, config.eval.leakage, config.store.dir) == ("runs/x", False, None)
    config = to_typed(compose_root("evaluate", ["run=runs/x", "store.dir=/t"]), EvaluateConfig)
    assert config.store.dir == "/t"


@pytest.mark.parametrize("name", options("sweep"))
def test_sweeps_need_no_flag(name: str) -> None:
    root = compose_root("train", [f"sweep={name}"])
    assert root.hydra.mode.name == "MULTIRUN"
    for key, values in root.hydra.sweeper.params.items():
        if "(" in values:
            continue  # a search space: tests/app/test_sweeps.py
        if key in GROUPS:
            assert set(values.split(",")) <= set(options(key))
        else:
            assert all(config_of(f"{key}={value}") for value in values.split(","))


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_names_every_option(command: str) -> None:
    text = compose_root(command).hydra.help.template
    shown = GROUPS if command == "train" else ["eval"]
    for group in shown:
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{group} "))
        assert all(option in line for option in options(group))
