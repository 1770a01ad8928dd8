"""Contract: an exported run is a whole Hugging Face model: it scores what the run scored, by
somebody else's code, and its card says so.
"""

from __future__ import annotations

import dataclasses
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml
from golden import Golden
from huggingface_hub import HfApi, constants

from retro_lab.__main__ import main
from retro_lab.api.exporting import export, push
from retro_lab.config.errors import UserError
from retro_lab.config.schema import DenseNeuralRetrieverConfig
from retro_lab.evaluation.records.results import Results
from retro_lab.retrieval.folder import RunRetriever
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.scores import load_model
from retro_lab.run.finished import FinishedRun


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


@pytest.fixture(scope="module")
def with_database(folder: Path, finished: RunDirectory) -> Path:
    """An export that retrieves by itself, moved away from where it was written."""
    out = folder.parent / "writing" / "golden"
    assert main(["export", f"run={finished.path}", f"out={out}", "database=true"]) == 0
    return out.rename(folder.parent / "retrieving")


def test_it_retrieves_what_the_run_finds(finished: RunDirectory, with_database: Path) -> None:
    run = FinishedRun.open(finished)
    model, chunks = run.model().config, run.graph.chunks
    asked = np.asarray(chunks.tokens[chunks.chunks_of("test")[:20]])
    tokens, described = run.search(model, k=run.config.neighbours.k).search(asked.tolist())
    retriever = RunRetriever.from_pretrained(with_database)
    assert np.array_equal(retriever(torch.from_numpy(asked.astype(np.int64))).numpy(), tokens)
    assert retriever.source.search(asked.tolist())[1] == described
    [best] = retriever.search(described[0][0].text, k=1)
    assert best.document == described[0][0].document


def test_the_cards_example_runs_as_it_stands(
    with_database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (with_database.parent / "golden-card").mkdir()
    monkeypatch.chdir(with_database.parent / "golden-card")
    Path("golden").symlink_to(with_database)
    card = Path("golden/README.md").read_text()
    names: dict[str, object] = {}
    exec(card.partition("```python\n")[2].partition("```")[0], names)
    assert "import os" in capsys.readouterr().out
    assert isinstance(names["model"].retriever, RunRetriever)  # pyright: ignore


def test_the_hub_reads_the_figures(finished: RunDirectory, folder: Path) -> None:
    head = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    [entry] = head["model-index"]
    metrics = {each["type"]: each["value"] for each in entry["results"][0]["metrics"]}
    score = Results.load(finished.results_file).metrics["test"]["on"]
    assert metrics == {"bits_per_byte": round(score.bpb, 4), "perplexity": round(score.ppl, 2)}


def test_others_may_read_every_file(with_database: Path, tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    modes = {path.stat().st_mode for path in with_database.rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "ordinary").stat().st_mode}


def test_a_retriever_that_reads_texts_is_not_exported(
    finished: RunDirectory, tmp_path: Path
) -> None:
    run = FinishedRun.open(finished)
    reranking = dataclasses.replace(run.config, retriever=DenseNeuralRetrieverConfig())
    with pytest.raises(UserError, match="reads the texts of its candidates") as caught:
        export(FinishedRun(finished, reranking), tmp_path / "out", database=True)
    assert "serve run=" in str(caught.value.fix)
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_database_exports_none(
    golden: Golden, finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plain"
    assert main(["export", f"run={golden.baseline().path}", f"out={out}", "database=true"]) == 2
    assert "retriever=none has no index" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(UserError, match="holds no database"):
        RunRetriever.from_pretrained(tmp_path)


def test_a_folder_is_sent_to_the_hub(folder: Path) -> None:
    hub = Mock(create_repo=Mock(return_value="https://hub/me/golden"))
    assert push(folder, "me/golden", hub) == "https://hub/me/golden"
    hub.create_repo.assert_called_once_with("me/golden", private=True, exist_ok=True)
    [sent] = hub.upload_folder.call_args_list
    assert (sent.kwargs["repo_id"], sent.kwargs["folder_path"]) == ("me/golden", folder)
    hub.create_repo.side_effect = ConnectionError("no route to the hub")
    with pytest.raises(UserError, match="push=me/golden: no route to the hub"):
        push(folder, "me/golden", hub)
    hub.create_repo.side_effect = TypeError("a bug")
    with pytest.raises(TypeError, match="a bug"):
        push(folder, "me/golden", hub)


def test_a_hub_that_is_not_there_is_one_message(folder: Path) -> None:
    """The hub's own client raises an error of its HTTP library, which is no OSError."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        hub = HfApi(f"http://127.0.0.1:{nobody.getsockname()[1]}", token="x")
        with pytest.raises(UserError, match=r"push=me/golden: .*refused") as caught:
            push(folder, "me/golden", hub)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        ("golden", "x", "organisation is missing"),
        ("me/golden/more", "x", "ORGANISATION/MODEL"),
        ("me/my model", "x", "alphanumeric"),
        ("me/golden", "", "no login"),
    ],
)
def test_what_cannot_be_sent_is_not_written(
    finished: RunDirectory,
    tmp_path: Path,
    name: str,
    token: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "nobody"))
    out = tmp_path / "sent"
    assert main(["export", f"run={finished.path}", f"out={out}", f"push={name}"]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


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
