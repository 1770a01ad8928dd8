"""Contract: `recipe.backbone` runs the whole bench on a Hugging Face model; the model as it is
is the baseline, and what does not fit is said before any data is touched.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import torch
from golden import Golden
from local_backbone import write_backbone
from norlund_dataset import write_tokenizer

from retro_lab.commands.train import main as train
from retro_lab.commands.validate import main as validate
from retro_lab.config.fingerprints import run_key, run_name
from retro_lab.evaluation.measure.text_scoring import ScoredText
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.run.compared import compared_runs
from retro_lab.run.directory import RunDirectory
from retro_lab.run.finished import FinishedRun
from retro_lab.run.tasks.conditions import Conditions

METRICS = ("nats", "tokens", "bytes")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("models") / "Tiny-Llama")


@pytest.fixture(scope="module")
def grafted(golden: Golden, backbone: Path) -> RunDirectory:
    return golden.run(*overrides(backbone))


def overrides(backbone: Path) -> list[str]:
    return [
        f"recipe.backbone={backbone}",
        "tokenizer.vocab_size=4096",
        "cca.layers=[2]",
        "neighbours=k1",
        "eval.random=false",
        "eval.stride=256",
        "plain=none",
        "schedule.batch_size=2",
    ]


def metrics(run: RunDirectory) -> dict[str, dict[str, float]]:
    return orjson.loads(run.results_file.read_bytes())["metrics"]["test"]


def test_off_is_the_backbone_and_on_differs(grafted: RunDirectory) -> None:
    found = metrics(grafted)
    assert set(found) == {"on", "off", "baseline"}
    assert found["off"] == found["baseline"]
    assert found["on"]["nats"] != found["off"]["nats"]
    assert grafted.path.name.startswith("tiny_llama-bm25-")


def test_benchmarks_score_a_graft_as_its_evaluation_does(grafted: RunDirectory) -> None:
    conditions = Conditions(FinishedRun.open(grafted), compared_runs(grafted.config()))
    corpus, table = conditions.run.graph.corpus, ChunkTable.load(grafted.chunks_file)
    assert conditions.names == ["baseline", "off", "on"]
    numbers = corpus.documents_of("test").tolist()
    encoded = conditions.run.tokenizer.encode_batch([corpus.text(number) for number in numbers])
    boundary = conditions.run.tokenizer.boundary_id
    texts = [ScoredText([boundary, *tokens.ids.tolist()]) for tokens in encoded]
    rows = [table.document_id == corpus.ids[number] for number in numbers]
    for name in conditions.names:
        scores = conditions.scorer(name).score(texts)
        nats = [table.nats[name][row].sum() for row in rows]
        assert [score.nats for score in scores] == pytest.approx(nats, rel=1e-5)
    prompt = list(texts[0].tokens[:20])
    [text] = conditions.writer("on").write([prompt], max_tokens=5, until=[])
    assert text


def test_the_backbone_is_evaluated_as_it_is(
    golden: Golden, backbone: Path, grafted: RunDirectory
) -> None:
    alone = golden.run(*overrides(backbone), "retriever=none", "seed=5", "optim.lr=1")
    assert metrics(alone)["baseline"] == metrics(grafted)["baseline"]
    assert not (alone.path / "checkpoints").exists()
    assert run_name(golden.config(*overrides(backbone), "retriever=none")) == alone.path.name


def test_results_say_the_backbones_sizes(grafted: RunDirectory) -> None:
    model = orjson.loads(grafted.results_file.read_bytes())["config"]["model"]
    sizes = {name: model[name] for name in ("d_model", "num_layers", "num_heads", "head_dim")}
    assert sizes == {"d_model": 32, "num_layers": 2, "num_heads": 2, "head_dim": 16}


def test_validate_says_what_would_run(
    golden: Golden, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate([*golden.overrides, *overrides(backbone)]) == 0
    said = capsys.readouterr().out
    assert "tiny_llama-bm25-" in said
    assert "layers [2] of 2" in said


def test_frozen_weights_are_the_folders(grafted: RunDirectory, backbone: Path) -> None:
    from transformers import AutoModelForCausalLM

    trained = grafted.weights()
    for name, value in AutoModelForCausalLM.from_pretrained(backbone).state_dict().items():
        assert torch.equal(trained[f"backbone.{name}"], value)


def test_a_folder_changed_in_place_is_another_run(golden: Golden, tmp_path: Path) -> None:
    folder = write_backbone(tmp_path / "model")
    before = golden.config(*overrides(folder))
    keys = {run_key(before), run_key(golden.config(*overrides(folder), "retriever=none"))}
    write_backbone(folder, seed=1)
    keys |= {run_key(before), run_key(golden.config(*overrides(folder), "retriever=none"))}
    assert len(keys) == 4
    moved = folder.rename(tmp_path / "elsewhere").rename(tmp_path / "model")
    assert run_key(golden.config(*overrides(moved))) in keys


def problem(golden: Golden, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """What `train.py` says; it has exit code 2 and builds no data."""
    store = golden.folder / "untouched"
    given = [one for one in golden.overrides if not one.startswith("store.dir")]
    assert train([*given, f"store.dir={store}", *more]) == 2
    assert not store.exists()
    return capsys.readouterr().err


def test_an_encoder_decoder_is_refused(
    golden: Golden, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import T5Config

    T5Config(d_model=8, num_layers=1, num_heads=1, d_kv=8, d_ff=8).save_pretrained(tmp_path)
    said = problem(golden, capsys, *overrides(tmp_path))
    assert "t5 is an encoder-decoder" in said
    assert "gpt2, gpt_neox, llama" in said


def test_what_does_not_fit_is_said_at_once(
    golden: Golden, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = ["chunking.sequence_length=512", "cca.layers=[3]"]
    said = problem(golden, capsys, *overrides(backbone), *lengths)
    assert "cca.layers=[3]: layers count from 1 to 2" in said
    assert "the backbone reaches over 256 tokens at most" in said


def test_tokens_beyond_the_vocabulary_are_refused(
    golden: Golden, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_backbone(tmp_path / "small", vocab_size=200, bos_token_id=1, eos_token_id=1)
    given = [one for one in golden.overrides if not one.startswith("tokenizer.")]
    other = ["tokenizer=hf", f"tokenizer.path={backbone}"]
    plain = replace(golden, overrides=tuple(given))
    said = problem(plain, capsys, f"recipe.backbone={small}", *other)
    assert "makes ids up to 256, but the backbone knows 200 tokens" in said
    lossy = f"tokenizer.path={write_tokenizer(tmp_path / 'lossy')}"
    said = problem(plain, capsys, f"recipe.backbone={backbone}", "tokenizer=hf", lossy)
    assert "loses text, which needs tokens of its own, and the backbone has none" in said


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        (["tokenizer=byte"], "a backbone reads the token ids that it was trained with"),
        (["recipe=scratch"], "from scratch, nothing is grafted"),
    ],
)
def test_settings_that_contradict_a_backbone(
    golden: Golden,
    backbone: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    rule: str,
) -> None:
    given = [one for one in golden.overrides if not one.startswith("tokenizer.")]
    plain = replace(golden, overrides=tuple(given))
    assert rule in problem(plain, capsys, f"recipe.backbone={backbone}", *more)


def test_a_missing_backbone(golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    said = problem(golden, capsys, "recipe.backbone=./nowhere", "tokenizer.vocab_size=4096")
    assert "recipe.backbone=./nowhere can't be loaded: there is no such folder or file" in said


def test_a_run_is_no_backbone(
    golden: Golden, grafted: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [f"recipe.backbone={grafted.path}", "tokenizer.vocab_size=4096"]
    said = problem(golden, capsys, *more)
    assert "is a run of this project" in said
    assert "recipe=retrofit grafts on the run's own baseline" in said
