"""Contract: every rule between settings is refused with its key, its value and a fix that works;
all broken rules are reported at once; settings that a run does not use are not looked at.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from retro_lab.config.errors import ConfigError, UserError
from retro_lab.config.rules import check
from retro_lab.config.schema import Config

Build = Callable[..., Config]

# overrides that break one rule; the start of its message; overrides that mend it
BROKEN = [
    ("neighbours.k=0", "neighbours.k=0: must be at least 1", "neighbours.k=1"),
    ("neighbours.k=17", "neighbours.k=17: only 16", "neighbours.k_store=17"),
    ("neighbours.k_store=8", "eval.overlap_neighbours=10: only 8", "eval.overlap_neighbours=8"),
    ("neighbours.k_store=8", "eval.overlap_neighbours=10: only 8", "eval=ppl"),
    (
        "chunking.sequence_length=500",
        "chunking.sequence_length=500",
        "chunking.sequence_length=512",
    ),
    ("chunking.sequence_length=64", "chunking.sequence_length=64", "chunking.sequence_length=128"),
    (
        "chunking.chunk_size=1",
        "chunking.chunk_size=1: must be at least 2",
        "chunking.chunk_size=64",
    ),
    ("eval.stride=100", "eval.stride=100: must be whole chunks of 64", "eval.stride=128"),
    ("eval.stride=1024", "eval.stride=1024: must be", "eval.stride=null"),
    ("eval.stride=0", "eval.stride=0: must be", "eval.stride=null"),
    ("cca=paper", "cca=paper: gives a model of 4 layers no CCA", "cca=mid"),
    ("cca.layers=[5]", "cca.layers=[5]: layers count from 1 to 4", "cca.layers=[4]"),
    ("cca.layers=[0,1]", "cca.layers=[0,1]: layers count from 1", "cca.layers=[1]"),
    ("cca.layers=[]", "cca.layers=[]: gives a model of 4 layers no CCA", "cca.layers=null"),
    (
        "model.encoder.cca_layers=[3]",
        "model.encoder.cca_layers=[3]",
        "model.encoder.cca_layers=[2]",
    ),
    (
        "model.encoder.num_layers=0",
        "model.encoder.num_layers=0: must be at least 1",
        "model.encoder.num_layers=1",
    ),
    ("model.head_dim=31", "model.head_dim=31: rotary", "model.head_dim=32"),
    (
        "model.encoder.head_dim=31",
        "model.encoder.head_dim=31: rotary",
        "model.positions=relative",
    ),
    (
        "model.encoder.num_heads=0",
        "model.encoder.num_heads=0: must be",
        "model.encoder.num_heads=1",
    ),
    ("model.neighbour_noise=-1", "model.neighbour_noise=-1", "model.neighbour_noise=0.196"),
    (
        "model.value=continuation chunking.continuation_chunks=0",
        "model.value=continuation: chunking.continuation_chunks=0 leaves nothing",
        "model.value=neighbour",
    ),
    ("model.dropout=1", "model.dropout=1.0: must be in [0, 1)", "model.dropout=0.5"),
    (
        "model.share_embeddings=true model.encoder.d_model=64",
        "model.share_embeddings=true: needs equal widths",
        "model.encoder.d_model=128",
    ),
    ("baseline=null", "baseline=null: recipe.method=retrofit starts from", "recipe=scratch"),
    ("baseline=none_at_all", "baseline=none_at_all: must be auto or null", "baseline=auto"),
    ("recipe.method=scratch", "recipe.freeze=backbone: from scratch", "recipe.freeze=none"),
    ("recipe.warmup_steps=200", "recipe.warmup_steps=200: is more than", "recipe.steps=200"),
    ("recipe.unfreeze_after=80", "recipe.unfreeze_after=80: must be from 1", "recipe.steps=81"),
    ("recipe.unfreeze_after=0", "recipe.unfreeze_after=0: must be", "recipe.unfreeze_after=null"),
    (
        "recipe.unfreeze_after=9 recipe.freeze=none",
        "recipe.unfreeze_after=9: with recipe.freeze=none nothing",
        "recipe.freeze=backbone",
    ),
    ("recipe.pointer_heads=3", "recipe.pointer_heads=3: must divide", "recipe.pointer_heads=1"),
    ("recipe.pointer_heads=0", "recipe.pointer_heads=0: must be", "recipe.pointer_heads=1"),
    ("recipe.neighbour_dropout=1", "recipe.neighbour_dropout=1.0", "recipe.neighbour_dropout=0"),
    ("recipe.val_every=0", "recipe.val_every=0: must be at least 1", "recipe.val_every=null"),
    ("eval.k=17", "eval.k=17: only 16 neighbours are stored", "neighbours.k_store=17"),
    ("eval.k=0", "eval.k=0: must be at least 1, or null", "eval.k=1"),
    (
        "optim@recipe.optim=muon recipe.optim.muon_lr=0",
        "recipe.optim.muon_lr=0.0: must be finite",
        "recipe.optim.muon_lr=0.01",
    ),
    (  # a schema's bounds hold wherever it is nested
        "optim@recipe.optim=muon recipe.optim.weight_decay=-1",
        "recipe.optim.weight_decay=-1.0: must be finite and not negative",
        "recipe.optim.weight_decay=0",
    ),
    ("schedule.warmup_steps=501", "schedule.warmup_steps=501", "schedule.warmup_steps=50"),
    (
        "schedule.batch_size=6 trainer.accumulate=4",
        "schedule.batch_size=6",
        "schedule.batch_size=8",
    ),
    ("trainer=ddp schedule.batch_size=7", "schedule.batch_size=7", "schedule.batch_size=8"),
    ("schedule.steps=0 schedule.warmup_steps=0", "schedule.steps=0", "schedule.steps=1"),
    ("optim.lr=0", "optim.lr=0.0: must be finite and above 0", "optim.lr=1e-3"),
    ("optim.lr=nan", "optim.lr=nan: must be finite and above 0", "optim.lr=1e-3"),
    ("optim.lr=inf", "optim.lr=inf: must be finite and above 0", "optim.lr=1e-3"),
    ("optim.clip=0", "optim.clip=0.0: must be above 0", "optim.clip=null"),
    ("optim.betas=[0.9]", "optim.betas=[0.9]: must be two", "optim.betas=[0.9,0.95]"),
    ("trainer=fsdp optim=muon", "optim=muon needs whole matrices", "trainer=ddp"),
    (
        "trainer=fsdp optim@recipe.optim=muon",
        "recipe.optim=muon needs whole matrices",
        "optim@recipe.optim=adamw",
    ),
    ("trainer.strategy=fsdp", "trainer.strategy=fsdp: shards", "trainer.strategy=ddp"),
    (
        "trainer=fsdp trainer.accelerator=cpu",
        "trainer.strategy=fsdp: shards a model over GPUs",
        "trainer.accelerator=gpu",
    ),
    ("optim=muon optim.momentum=1", "optim.momentum=1.0", "optim.momentum=0.95"),
    ("trainer.strategy=dpp", "trainer.strategy=dpp: must be auto or ddp", "trainer.strategy=ddp"),
    ("trainer.precision=16", "trainer.precision=16: must be 32-true", "trainer.precision=32-true"),
    ("prepare.workers=2", "prepare.workers=2: prepare.engine=local", "prepare.engine=ray"),
    (
        "prepare.gpus_per_worker=1",
        "prepare.gpus_per_worker=1.0: prepare.engine=local",
        "prepare.engine=ray",
    ),
    (
        "prepare.engine=ray prepare.workers=0",
        "prepare.workers=0: must be at least 1, or null",
        "prepare.workers=null",
    ),
    ("corpus.split.test=0.96", "corpus.split.validation=0.05: with", "corpus.split.test=0.1"),
    ("corpus.split.train_ids=a", "corpus.split: train_ids", "corpus.split.train_ids=null"),
    ("corpus.max_bytes=0", "corpus.max_bytes=0: must be at least 1", "corpus.max_bytes=null"),
    ("tokenizer.vocab_size=200", "tokenizer.vocab_size=200", "tokenizer.vocab_size=258"),
    ("eval.alphas=[0.5,0.25]", "eval.alphas=[0.5,0.25]", "eval.alphas=[0.25,0.5]"),
    ("eval.alphas=[0,1]", "eval.alphas=[0.0,1.0]", "eval.alphas=[0.5,1]"),
    ("eval.alphas=[]", "eval.alphas=[]", "eval.alphas=[1]"),
    ("eval.confidence=95", "eval.confidence=95.0", "eval.confidence=0.95"),
    ("eval.split=val", "eval.split=val: must be train or", "eval.split=validation"),
    ("model.name=a/b", "model.name=a/b: is part of a directory's name", "model.name=ab"),
    ("eval.name=..", "eval.name=..: is part of a directory's name", "eval.name=before"),
    (
        "recipe.further_steps=9",
        "recipe.further_steps=9: trains a backbone without retrieval, and retriever=bm25",
        "recipe.further_steps=0",
    ),
    (
        "recipe.further_steps=9 retriever=none",
        "recipe.further_steps=9: trains a pretrained model further",
        "recipe.backbone=gpt2 tokenizer.path=gpt2 tokenizer=hf",
    ),
    ("recipe.further_steps=-1", "recipe.further_steps=-1: must be", "recipe.further_steps=0"),
    ("recipe.further_lr=0", "recipe.further_lr=0.0: must be", "recipe.further_lr=1e-5"),
    ("memory.name=a/b", "memory.name=a/b: is part of a directory's name", "memory.name=ab"),
]


@pytest.mark.parametrize(("overrides", "message", "mend"), BROKEN)
def test_broken_rule_is_named_and_can_be_mended(
    config_of: Build, overrides: str, message: str, mend: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(config_of(*overrides.split()))
    (problem,) = caught.value.problems
    assert problem.message.startswith(message)
    assert problem.fix
    choices = {item.partition("=")[0]: item for item in [*overrides.split(), *mend.split()]}
    check(config_of(*choices.values()))


def test_all_problems_are_reported_at_once(config_of: Build) -> None:
    broken = ["neighbours.k=0", "optim.lr=-1", "eval.stride=3", "model.dropout=2", "cca=paper"]
    with pytest.raises(ConfigError) as caught:
        check(config_of(*broken))
    keys = {problem.message.partition("=")[0] for problem in caught.value.problems}
    assert keys == {"neighbours.k", "optim.lr", "eval.stride", "model.dropout", "cca"}
    assert "5 problems" in str(caught.value)
    assert str(caught.value).count("fix:") == 5


@pytest.mark.parametrize(
    "unused", ["cca=paper", "neighbours.k=0", "baseline=null", "recipe.steps=0", "cca.layers=[9]"]
)
def test_a_baseline_ignores_what_it_does_not_use(config_of: Build, unused: str) -> None:
    check(config_of("retriever=none", unused))


def test_errors_cross_processes() -> None:
    """Launchers send a job's exception back by pickle."""
    error = ConfigError([UserError("a", fix="b"), UserError("c")])
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert [problem.fix for problem in copy.problems] == ["b", None]


@pytest.mark.parametrize(("given", "meant"), [("val", "validation"), ("tests", "test")])
def test_the_nearest_choice_is_proposed(config_of: Build, given: str, meant: str) -> None:
    """The training split, the first one, would be scored without a word."""
    with pytest.raises(ConfigError) as caught:
        check(config_of(f"eval.split={given}"))
    assert caught.value.fix == f"eval.split={meant}"
