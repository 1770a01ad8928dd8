"""Contract: a mistake on the command line or in a YAML file becomes one message that names the
full key, what was expected and the nearest valid spelling. The messages come from parts of
Hydra's own, so these tests also notice when Hydra changes its wording.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException

from retro_lab.config.compose import load_config, register
from retro_lab.config.errors import UserError
from retro_lab.config.explain import explain
from retro_lab.config.keys import conf_dir, describe, known_keys, nearest

# overrides, words of the message, words of the fix
MISTAKES = [
    ("retreiver=bm25", "retreiver is not a key", "did you mean retriever?"),
    ("model=tinny", "options of model: base, nano, retro_172m,", "did you mean model=tiny?"),
    ("modle=tiny", "modle is not a key", "did you mean model?"),
    ("model.d_modle=3", "model.d_modle is not a key", "did you mean model.d_model?"),
    ("model.d_modle=3", "keys of model: cca_positions, d_ff,", ""),
    ("modle.d_ff=3", "modle.d_ff is not a key", "did you mean model.d_ff?"),
    ("model.encodr.num_layers=1", "model.encodr.num_layers", "model.encoder.num_layers or"),
    ("chunk_size=32", "chunk_size is not a key", "did you mean chunking.chunk_size?"),
    ("lr=1", "lr is not a key", "did you mean plain.lr or optim.lr or recipe.lr?"),
    ("optim.lr=abc", "optim.lr=abc: expected a number", "optim.lr=0.003, the default"),
    ("model.d_model=1.5", "model.d_model=1.5: expected a whole number", "model.d_model=128"),
    ("trainer.compile=maybe", "expected true or false", "trainer.compile=false"),
    ("cca.placement=middle", "expected one of first, mid, last, every_third, paper, all", "mid"),
    ("cca.layers=2", "expected a list of whole numbers (as [a,b]) or null", "cca.layers=[2]"),
    ("cca.layers=two", "expected a list of whole numbers", "cca.layers=null, the default"),
    ("eval.alphas=0.5", "expected a list of numbers (as [a,b])", "eval.alphas=[0.5]"),
    ("cca=none", "cca=none: there is no such option", "retriever=none is the model"),
    ("neighbours=k0", "neighbours=k0: there is no such option", "retriever=none is the model"),
    ("neighbours=k3", "neighbours=k3: there is no such option", "neighbours.k=3"),
    ("chunking=m48", "chunking=m48: there is no such option", "chunking.chunk_size=48"),
    ("database.add=a.jsonl", "expected a list of texts", "database.add=[a.jsonl]"),
    ("eval.alphas=[0.1,x]", "eval.alphas=[0.1,x]: expected a list of numbers", "eval.alphas=["),
    ("optim.lr=null", "optim.lr=null: expected a number", ""),
    ("logger=[wandb,cvs]", "logger=cvs: there is no such option", "logger=csv"),
    ("experiment=nope", "options of experiment:", "choose one: experiment="),
    ("retriever.nprobe=4", "not a key of the chosen option of retriever", "retriever=faiss_flat"),
    ("retriever=null", "not null", "retriever=none"),
    ("model=tiny,small", "model=tiny,small has several values", "add -m"),
    ("eval.split=a,b", "eval.split=a,b has several values", "\"eval.split='a,b'\""),
    ("corpus=jsonl", "corpus.path has no value and needs one", "corpus.path=<"),
    ("+model.d_modle=3", "model.d_modle is not a key", "did you mean model.d_model?"),
    ("++sead=3", "sead is not a key", "did you mean seed?"),
    ("+model.d_model=3", "model.d_model exists already", "leave out the leading +"),
    ("model", "cannot read the argument 'model': missing EQUAL", "write key=value"),
    ("hydra/launcher=slrum", "options of hydra/launcher: cores,", "hydra/launcher=slurm?"),
    ("prepare.engine=spark", "prepare.engine=spark: expected one of local, ray", "=local"),
    ("hydra/lancher=basic", "hydra/lancher is not a key", "did you mean hydra/launcher?"),
    ("hydra.sweep.dirr=x", "hydra.sweep.dirr is not a key", "--cfg hydra"),
    ("xyzzy=1", "xyzzy is not a key of the configuration", "--cfg job"),
    ("optim.lr=${oc.env:NOT_SET}", "'NOT_SET' not found", ""),
]


def mistake(overrides: list[str]) -> UserError:
    with pytest.raises(Exception) as caught:
        load_config(overrides)
    explained = explain(caught.value)
    assert explained is not None
    return explained


@pytest.mark.parametrize(("override", "message", "fix"), MISTAKES)
def test_mistake_is_explained(override: str, message: str, fix: str) -> None:
    error = mistake([override])
    assert message in error.message
    assert fix in (error.fix or "")
    for internal in ("full_key", "object_type", "Traceback", "ConfigKeyError", "append to your"):
        assert internal not in str(error)


def test_option_of_another_schema_keeps_its_key() -> None:
    load_config(["retriever=faiss_hnsw", "retriever.nprobe=4"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "model:\n  d_modle: 3",
            "model.d_modle is not a key of the configuration (in experiment/x",
        ),
        ("optim:\n  lr: fast", "optim.lr (in experiment/x.yaml): expected a number"),
        ("defaults:\n  - override /model: tinny", "model=tinny: there is no such option"),
    ],
)
def test_mistake_in_a_file_names_the_file(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "x.yaml").write_text(f"# @package _global_\n{body}\n")
    register()
    GlobalHydra.instance().clear()
    with (
        initialize_config_dir(str(conf_dir()), version_base="1.3"),
        pytest.raises(Exception) as caught,
    ):
        compose("train", ["experiment=x", f"hydra.searchpath=[file://{tmp_path}]"])
    explained = explain(caught.value)
    assert explained is not None
    assert message in explained.message


@pytest.mark.parametrize(
    ("option", "extra"),
    [
        ("hydra/launcher/submitit_slurm", "cluster"),
        ("hydra/launcher/ray", "ray-launcher"),
    ],
)
def test_a_plugin_that_is_missing_names_its_extra(option: str, extra: str) -> None:
    explained = explain(MissingConfigException("could not find it", missing_cfg_file=option))
    assert explained is not None
    assert "is a plugin of Hydra that isn't installed" in explained.message
    assert explained.fix == f'pip install -e ".[{extra}]"'


def test_bugs_are_not_explained_away() -> None:
    assert explain(ValueError("a bug")) is None
    assert explain(KeyError("model")) is None


def test_a_user_error_inside_a_chain_is_found() -> None:
    wrapped = RuntimeError("from a resolver")
    wrapped.__cause__ = UserError("the cause", fix="do this")
    assert explain(wrapped) is wrapped.__cause__


def test_every_key_has_a_type_in_words() -> None:
    assert len(known_keys()) > 90
    for key in known_keys():
        assert describe(key.type)


def test_nearest_prefers_the_same_last_part() -> None:
    assert nearest("evaluation.stride") == ["eval.stride"]
    assert nearest("nothing_like_it_at_all") == []
