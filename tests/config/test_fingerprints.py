"""Contract: a run's key depends on exactly what changes its trained weights. It is stable between
versions, blind to where, how fast and how verbosely a run is done, and one for all the ways to
write a baseline.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retro_lab.config.compose import compose_root, load_config
from retro_lab.config.fingerprints import (
    at_rate,
    baseline_of,
    canonical,
    eval_fields,
    evaluation_name,
    plain_of,
    run_fields,
    run_key,
    run_name,
    steps_of,
)
from retro_lab.config.schema import (
    Config,
    FaissRetrieverConfig,
    HashingEmbedderConfig,
    MuonConfig,
    NoneRetrieverConfig,
    PlainConfig,
    PlainMatch,
)

Build = Callable[..., Config]

# Changing these keys orphans every run that users have: raise SCHEMA_VERSION and say so.
GOLDEN_DEFAULT = "d64cf24bdab121bb343529baaece7701179b0e9d555f997acf70c4e0dca8dd45"
GOLDEN_BASELINE = "b1ca52deec99ee35106ffece0169b572abf86f7d6774b3da8f49fccc501f3371"

OUTSIDE = """
logger eval plain memory store prepare runs_dir resume objective verbose database.name
neighbours.min_coverage trainer.name trainer.accelerator
trainer.devices trainer.num_nodes trainer.strategy trainer.threads trainer.num_workers
trainer.compile trainer.val_every trainer.val_windows trainer.log_every trainer.checkpoint_every
trainer.accumulate trainer.checkpointing recipe.val_every recipe.further_lr
model.ngram_table.width model.ngram_table.longest model.ngram_table.heads model.ngram_table.layer
"""
OUTSIDE_OF_BASELINES = f"""
{OUTSIDE} cca neighbours database embedder baseline
model.encoder model.share_embeddings model.cca_positions
model.value model.gated_cca model.neighbour_noise recipe.name
recipe.method recipe.pointer recipe.freeze recipe.steps recipe.lr recipe.warmup_steps
recipe.pointer_heads recipe.pointer_start recipe.match_bias recipe.k_curriculum
recipe.neighbour_dropout recipe.unfreeze_after recipe.optim
chunking.continuation_chunks
"""
BASE = load_config(["retriever=faiss_flat", "logger=[wandb,csv,tensorboard]"])


def leaves(config: Any, prefix: str = "") -> list[str]:
    """Dotted names of all settings below `config`."""
    found = []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        found += leaves(value, f"{name}.") if dataclasses.is_dataclass(value) else [name]
    return found


def changed(config: Config, names: list[str]) -> Config:
    """A copy with each named setting given another value of its type."""
    config = copy.deepcopy(config)
    for name in names:
        *path, last = name.split(".")
        node: Any = config
        for part in path:
            node = getattr(node, part)
        setattr(node, last, another(name, getattr(node, last)))
    return config


def another(name: str, value: Any) -> Any:
    if isinstance(value, Enum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, list):
        return [*value, 1]
    if isinstance(value, dict):
        return {"max_time": "00:01:00:00"}
    if name == "cca.layers":
        return [4]
    return "another"


def is_outside(name: str, outside: str) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in outside.split())


# A baseline's retriever has settings of its own: none. No baseline is trained through a memory.
LEAVES = [
    name for name in leaves(BASE) if not name.startswith("retriever.") and name != "memory.joint"
]


@given(st.sets(st.sampled_from([name for name in LEAVES if is_outside(name, OUTSIDE)])))
@settings(deadline=None, max_examples=50)
def test_what_is_outside_leaves_the_key(names: set[str]) -> None:
    assert run_key(changed(BASE, sorted(names))) == run_key(BASE)


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_what_changes_results_changes_the_key(data: st.DataObject) -> None:
    inside = st.sampled_from([name for name in leaves(BASE) if not is_outside(name, OUTSIDE)])
    names = data.draw(st.sets(inside, min_size=1))
    assert run_key(changed(BASE, sorted(names))) != run_key(BASE)


@pytest.mark.parametrize("name", [n for n in leaves(BASE) if not is_outside(n, OUTSIDE)])
def test_each_setting_that_changes_results_is_in_the_key(name: str) -> None:
    assert run_key(changed(BASE, [name])) != run_key(BASE)


@given(st.sets(st.sampled_from(LEAVES), min_size=1))
@settings(deadline=None, max_examples=100)
def test_baselines_are_blind_to_retrieval(names: set[str]) -> None:
    base = dataclasses.replace(BASE, retriever=NoneRetrieverConfig())
    other = changed(base, sorted(names))
    ignored = all(is_outside(name, OUTSIDE_OF_BASELINES) for name in names)
    assert (run_key(other) == run_key(base)) == ignored
    assert run_key(baseline_of(changed(BASE, sorted(names)))) == run_key(other)


@given(st.sets(st.sampled_from(LEAVES)))
@settings(deadline=None, max_examples=50)
def test_canonical_keeps_the_key_and_repeats(names: set[str]) -> None:
    for base in (BASE, dataclasses.replace(BASE, retriever=NoneRetrieverConfig())):
        config = changed(base, sorted(names))
        once = canonical(config)
        assert run_key(once) == run_key(config)
        assert canonical(once) == once


def test_golden_keys(config_of: Build) -> None:
    config = config_of()
    assert run_key(config) == GOLDEN_DEFAULT
    assert run_key(baseline_of(config)) == GOLDEN_BASELINE


def test_the_resolver_and_the_dataclass_agree(config_of: Build) -> None:
    for overrides in ([], ["retriever=none", "cca=all"], ["retriever=random", "neighbours=k8"]):
        root = compose_root("train", [*overrides, "runs_dir=r"])
        assert root.hydra.run.dir == f"r/{run_name(config_of(*overrides))}"
        assert root.hydra.sweep.subdir == run_name(config_of(*overrides))


def test_names_can_be_read(config_of: Build) -> None:
    key = run_key(config_of("seed=3", "neighbours=k4", "model=nano"))
    name = run_name(config_of("seed=3", "neighbours=k4", "model=nano"))
    assert name == f"nano-bm25-k4-s3-{key[:8]}"
    baseline = config_of("retriever=none")
    assert run_name(baseline) == f"tiny-none-s1-{run_key(baseline)[:8]}"


def test_all_spellings_of_a_baseline_are_one_run(config_of: Build) -> None:
    spellings = [
        [],
        ["cca=all"],
        ["neighbours=k8"],
        ["baseline=null"],
        ["embedder=hashing"],
        ["recipe.pointer=false", "recipe.steps=3"],
        ["recipe=scratch", "recipe.smeared_keys=true"],
        ["chunking.continuation_chunks=0"],
    ]
    keys = {run_key(config_of("retriever=none", *overrides)) for overrides in spellings}
    assert len(keys) == 1
    assert run_key(config_of("retriever=none", "recipe=scratch")) not in keys


def test_one_baseline_serves_all_that_compare_with_it(config_of: Build) -> None:
    runs = [
        ["retriever=bm25"],
        ["retriever=faiss_flat", "neighbours=k4", "cca=last"],
        ["retriever=random", "recipe.lr=1"],
    ]
    baselines = [canonical(baseline_of(config_of(*overrides))) for overrides in runs]
    assert len({run_key(baseline) for baseline in baselines}) == 1
    assert baselines[0] == baselines[1] == baselines[2]
    assert baselines[0].baseline is None
    assert isinstance(baselines[0].retriever, NoneRetrieverConfig)
    for other in ("seed=2", "model=nano", "corpus.max_bytes=5", "optim=muon", "chunking=m32"):
        assert run_key(baseline_of(config_of(other))) != run_key(baselines[0])


def test_placements_are_hashed_by_their_layers(config_of: Build) -> None:
    assert run_key(config_of("cca=mid")) == run_key(config_of("cca.layers=[2]"))
    assert run_key(config_of("cca.layers=[3,1,3]")) == run_key(config_of("cca.layers=[1,3]"))
    assert run_key(config_of("cca=mid")) != run_key(config_of("cca=last"))


def test_the_embedder_counts_only_where_it_embeds(config_of: Build) -> None:
    for retriever, counts in (("bm25", False), ("random", False), ("faiss_hnsw", True)):
        plain = config_of(f"retriever={retriever}")
        other = dataclasses.replace(plain, embedder=HashingEmbedderConfig())
        assert (run_key(plain) != run_key(other)) == counts


def test_settings_that_came_later_leave_older_keys(config_of: Build) -> None:
    dense = config_of("retriever=faiss_flat")
    assert run_key(dense).startswith("c0ed38137306cdf2")
    ranked = config_of("retriever=dense_neural_rerank")
    assert run_key(ranked).startswith("0cdc0e4e5cc2ae99")
    assert run_key(changed(ranked, ["retriever.scorer"])) != run_key(ranked)


def test_the_second_phase_counts_only_for_a_retrofit(config_of: Build) -> None:
    def key(*overrides: str) -> str:
        return run_key(config_of(*overrides))

    assert key("recipe.lr=1", "recipe.steps=9") != key()
    assert key("recipe=scratch", "recipe.lr=1", "recipe.steps=9") == key("recipe=scratch")


def test_a_memory_counts_only_where_the_model_is_trained_through_it(config_of: Build) -> None:
    def key(*overrides: str) -> str:
        return run_key(config_of(*overrides))

    memory, joint = "memory=suffix_topic", "memory.joint=0.15"
    assert key(memory) == key("memory=suffix", "memory.gate_tokens=5000", "memory.joint=0")
    assert key(memory, joint) != key(memory)
    for other in ("memory.joint=0.2", "memory.max_run=8", "memory.gate_tokens=5000"):
        assert key(memory, joint, other) != key(memory, joint)
    assert key("memory=suffix", joint) != key(memory, joint)
    assert key(memory, joint, "memory.cache=true") == key(memory, joint)  # never trained through
    own = config_of(memory, joint)
    assert run_key(baseline_of(own)) == GOLDEN_BASELINE
    assert evaluation_name(config_of(memory), own) is None


def test_kinds_with_equal_settings_differ(config_of: Build) -> None:
    config = config_of("optim=adamw")
    muon = dataclasses.replace(config, optim=MuonConfig(name="adamw"))
    assert run_key(muon) != run_key(config)
    retriever = dataclasses.replace(config, retriever=FaissRetrieverConfig(name="bm25"))
    assert run_key(retriever) != run_key(config)


def test_whole_numbers_and_fractions_are_one_value(config_of: Build) -> None:
    config = config_of("optim.lr=1", "model.dropout=0")
    config_2 = copy.deepcopy(config)
    config_2.optim.lr, config_2.model.dropout = 1, 0  # as a program may well write
    assert run_key(config) == run_key(config_2)


def test_fields_are_plain_data_and_leave_the_config_alone() -> None:
    before = copy.deepcopy(BASE)
    fields = run_fields(BASE)
    assert fields["cca"] == {"layers": [2]}
    assert fields["trainer"] == {"precision": "32-true"}
    assert "baseline" not in run_fields(baseline_of(BASE))
    assert before == BASE


def test_eval_fields() -> None:
    plain = eval_fields(BASE.eval)
    assert eval_fields(dataclasses.replace(BASE.eval, batch_size=99, name="x", pages=7)) == plain
    for name in set(leaves(BASE.eval)) - {"batch_size", "name", "pages"}:
        outside = name.startswith(("rivals.", "injection."))  # they have a record of their own
        assert (eval_fields(changed(BASE, [f"eval.{name}"]).eval) == plain) is outside


def test_another_plain_model_is_another_evaluation() -> None:
    without = eval_fields(BASE.eval)
    by_tokens = eval_fields(BASE.eval, PlainConfig())
    assert "plain" not in without
    assert by_tokens != eval_fields(BASE.eval, PlainConfig(match=PlainMatch.flops))
    assert by_tokens != eval_fields(BASE.eval, PlainConfig(lr=1.0))


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (["eval.stride=64", "eval.seed=7", "eval.tokens=true"], None),
        (["eval=inspect"], "inspect"),
        (["eval.name=before"], "before"),
        (["eval.split=validation"], "leakage-validation"),
        (["memory=suffix", "memory.cache=true"], "leakage-memory_suffix_cache"),
        (["memory=suffix", "plain.lr=0.1"], "leakage-memory_suffix-plain_tokens"),
        (["eval=ppl", "eval.split=validation", "plain=none"], "ppl-validation-plain_none"),
    ],
)
def test_an_evaluation_is_named_by_what_it_looks_at(
    config_of: Build, asked: list[str], name: str | None
) -> None:
    own = config_of()
    assert evaluation_name(config_of(*asked), own) == name
    assert evaluation_name(config_of(*asked), config_of(*asked)) is None


def test_the_plain_model_is_the_baseline_of_all_of_retros_steps(config_of: Build) -> None:
    retrofit, scratch = config_of("recipe.steps=7"), config_of("recipe=scratch")
    assert (steps_of(retrofit), steps_of(scratch)) == (407, 400)
    plain = plain_of(retrofit, steps_of(retrofit))
    assert run_key(plain) == run_key(config_of("retriever=none", "schedule.steps=407"))
    assert run_key(plain_of(scratch, 400)) == run_key(baseline_of(scratch))
    other = config_of("recipe.steps=7", "retriever=random", "neighbours=k4")
    assert run_key(plain_of(other, 407)) == run_key(plain), "it is shared"


def test_the_plain_model_may_have_a_rate_of_its_own(config_of: Build) -> None:
    plain = plain_of(config_of("plain.lr=0.006"), 480)
    assert plain.optim.lr == 0.006
    muon = config_of("optim=muon")
    faster = at_rate(muon.optim, 2 * muon.optim.lr)
    assert faster.muon_lr == 2 * muon.optim.muon_lr


@pytest.mark.parametrize("override", ["retriever=none", "baseline=null", "plain=none"])
def test_some_runs_have_no_plain_model(override: str, config_of: Build) -> None:
    assert config_of(override).wanted_plain is None
    assert config_of().wanted_plain == PlainConfig()


def test_switches_that_came_later_leave_older_records(config_of: Build) -> None:
    assert not {"words", "max_run", "without_pointer"} & eval_fields(config_of().eval).keys()
    assert eval_fields(config_of("eval.max_run=8").eval)["max_run"] == 8


def test_a_backbone_brings_its_sizes_and_tokenizer(config_of: Build) -> None:
    def key(*overrides: str) -> str:
        return run_key(config_of("recipe.backbone=owner/Some-Model", *overrides))

    assert key("model.d_model=256", "model=small", "recipe.smeared_keys=false") == key(
        "model.encoder.d_model=256", "model.encoder.num_layers=2"
    )
    assert key("tokenizer=hf", "tokenizer.path=owner/Some-Model") == key()
    for other in ("tokenizer=byte", "cca=last", "seed=2", "model.encoder.num_layers=3"):
        assert key(other) != key()
    assert run_name(config_of("recipe.backbone=owner/Some-Model")).startswith("some_model-bm25-")
    assert key("retriever=none", "seed=2", "optim=muon", "schedule.steps=7") == key(
        "retriever=none", "model=small", "cca=all"
    )
    assert key("retriever=none") != run_key(config_of("retriever=none"))
    assert key("retriever=none", "corpus.max_bytes=5") != key("retriever=none")


def test_keys_of_backbones_are_older_than_their_further_training(config_of: Build) -> None:
    graft = config_of("recipe.backbone=owner/Some-Model")
    assert run_key(graft).startswith("32c653dca74ae8b5")
    assert run_key(baseline_of(graft)).startswith("fe1cbab620c76e97")


def test_a_backbones_plain_model_is_that_backbone_trained_further(config_of: Build) -> None:
    def config(*overrides: str) -> Config:
        return config_of("recipe.backbone=owner/Some-Model", "schedule.steps=400", *overrides)

    def further(*overrides: str) -> str:
        return run_key(config("retriever=none", "recipe.further_steps=80", *overrides))

    graft = config("recipe.steps=80")
    assert graft.wanted_plain == PlainConfig()
    assert steps_of(graft) == 80, "the steps of a first phase are not run"
    plain = plain_of(graft, 80)
    assert run_key(plain) == further("schedule.steps=7", "optim.lr=1", "cca=all")
    assert (plain.schedule.steps, plain.schedule.warmup_steps, steps_of(plain)) == (80, 8, 80)
    assert plain.optim.lr == 1e-4
    assert not plain.is_backbone_alone
    assert run_key(plain_of(config("plain.lr=3e-5"), 80)) == further("recipe.further_lr=3e-5")
    others = (
        "recipe.further_lr=3e-5",
        "recipe.further_steps=81",
        "seed=2",
        "schedule.batch_size=4",
    )
    keys = {further(other) for other in (*others, "model.dropout=0.1", "optim=muon", "cca=all")}
    assert len(keys) == 7
    assert further() in keys


def test_without_further_steps_their_rate_is_nothing(config_of: Build) -> None:
    backbone = ("recipe.backbone=owner/Some-Model", "retriever=none")
    alone = config_of(*backbone)
    assert canonical(config_of(*backbone, "recipe.further_lr=1")) == canonical(alone)
    assert alone.is_backbone_alone


def test_where_a_service_listens_is_outside(config_of: Build) -> None:
    here = config_of("retriever=http")
    there = config_of(
        "retriever=http", "retriever.url=http://b:1", "retriever.timeout=1", "retriever.retries=0",
        "retriever.batch_size=7",
    )  # fmt: skip
    assert run_key(here) == run_key(there)
    assert run_key(config_of("retriever=http", "retriever.index=0123")) != run_key(here)
