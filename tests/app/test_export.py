"""Contract: an exported run is a whole Hugging Face model: it scores what the run scored, by
somebody else's code, and its card says so.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from golden import Golden

from retro_lab.__main__ import main
from retro_lab.evaluation.records.results import Results
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.scores import load_model


@pytest.fixture(scope="module")
def folder(finished: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "golden"
    assert main(["export", f"run={finished.path}", f"out={out}"]) == 0
    return out


def test_it_loads_and_is_the_runs_model(finished: RunDirectory, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import retro_lab.huggingface  # noqa: F401

    config = finished.config()
    prepared = DataGraph(config)
    ours = load_model(config, finished, prepared)
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    store = prepared.chunks
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (store.boundary_id,) * 2
    assert tokenizer.pad_token_id == store.pad_id
    assert theirs.generation_config.suppress_tokens == [store.pad_id]
    assert store.boundary_id != 0, "or the ids below could be left out"
    for config_of_theirs in (theirs.config, theirs.generation_config):
        assert config_of_theirs.bos_token_id == store.boundary_id
        assert config_of_theirs.eos_token_id == store.boundary_id
        assert config_of_theirs.pad_token_id == store.pad_id
    text = "abcd efgh\n  def é 漢字 1234"
    own = prepared.tokenizer.data
    ids = own.encode_batch([text])[0].ids.tolist()
    assert tokenizer(text, add_special_tokens=False).input_ids == ids
    assert tokenizer.decode(ids) == text
    size, k = config.chunking.chunk_size, config.neighbours.k
    tokens = torch.randint(store.pad_id, (1, 4 * size))
    neighbours = torch.randint(store.pad_id, (1, 4, k, 2 * size))
    for found in (None, neighbours):
        assert torch.equal(theirs(tokens, neighbour_ids=found).logits, ours(tokens, found))


def test_the_card_has_the_figures(finished: RunDirectory, folder: Path) -> None:
    card = (folder / "README.md").read_text()
    for score in Results.load(finished.results_file).metrics["test"].values():
        assert f"{score.bpb:.4f}" in card
    assert card.startswith("---\nlicense: other\n")
    assert 'AutoModelForCausalLM.from_pretrained("golden")' in card
    assert str(finished.path.parent) not in card


@pytest.mark.parametrize("kind", ["byte", "hf"])
def test_other_tokenizers_keep_their_ids(kind: str, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from retro_lab.text.tokenizers.byte import ByteTokenizer
    from retro_lab.text.tokenizers.fast import as_fast
    from retro_lab.text.tokenizers.huggingface import HuggingFaceTokenizer

    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(letters | {"</s>": 256}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    own = ByteTokenizer() if kind == "byte" else HuggingFaceTokenizer(backend, 256)
    fast = as_fast(own)
    text = "a  é\n漢 x"
    assert (
        fast(text, add_special_tokens=False).input_ids == own.encode_batch([text])[0].ids.tolist()
    )
    assert (fast.bos_token_id, fast.pad_token_id) == (own.boundary_id, own.pad_id)


def test_the_working_directory_is_not_replaced(
    finished: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for here in (".", str(tmp_path)):
        assert main(["export", f"run={finished.path}", f"out={here}"]) == 2
        assert "is there already" in capsys.readouterr().err


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_typed_again_it_finds_its_export_and_writes_nothing(
    finished: RunDirectory, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither into the folder nor into the run, which may be read-only."""
    before, run = contents(folder.parent), contents(finished.path)
    assert main(["export", f"run={finished.path}", f"out={folder}"]) == 0
    assert "a Hugging Face model" in capsys.readouterr().out
    assert contents(folder.parent) == before
    assert contents(finished.path) == run


def test_an_export_that_was_changed_is_not_overwritten(
    finished: RunDirectory, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "golden"
    shutil.copytree(folder, out)
    with (out / "README.md").open("a") as card:
        card.write("my own words\n")
    before = contents(tmp_path)
    assert main(["export", f"run={finished.path}", f"out={out}"]) == 2
    assert "is there already, and its README.md is not of this export" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_of_two_at_once_both_give_the_whole_export(
    finished: RunDirectory, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "golden"
    with ThreadPoolExecutor(2) as pool:
        codes = pool.map(lambda _: main(["export", f"run={finished.path}", f"out={out}"]), range(2))
        assert list(codes) == [0, 0]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["golden"]


def test_what_cannot_be_exported(
    finished: RunDirectory, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["export", f"run={finished.path}", f"out={tmp_path}"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert main(["export", f"run={finished.path}"]) == 2
    assert "export needs out" in capsys.readouterr().err
    file = folder / "config.json"
    assert main(["export", f"run={finished.path}", f"out={file / 'inside'}"]) == 2
    assert "inside cannot be made: Not a directory" in capsys.readouterr().err
    assert main(["export", "runs=x"]) == 2
    assert "did you mean run=" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    assert "export run=" in capsys.readouterr().out


def test_lm_eval_scores_a_baseline_as_we_do(
    golden: Golden, finished: RunDirectory, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    baseline = golden.run("retriever=none")
    assert main(["export", f"run={baseline.path}", f"out={tmp_path / 'baseline'}"]) == 0
    theirs = HFLM(pretrained=str(tmp_path / "baseline"), device="cpu", batch_size=2)
    config = baseline.config()
    prepared = DataGraph(config)
    ours, tokenizer = load_model(config, baseline, prepared), prepared.tokenizer.data
    texts = ["abcd bcde " * 20, "cdef fghi\n" * 9]
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    scores = theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    for text, log_likelihood in zip(texts, scores, strict=True):
        ids = torch.tensor([[tokenizer.boundary_id, *tokenizer.encode_batch([text])[0].ids]])
        nats = ours.token_nats(ids[:, :-1], ids[:, 1:]).sum().item()
        assert -log_likelihood == pytest.approx(nats, rel=1e-6)
