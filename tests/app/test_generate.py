"""Contract of `generate`: a finished run continues prompts, reading its own database at chunk ends,
or what it is given; what it prints follows from the arguments alone, and a mistake is one message.
"""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from composed import config_of
from golden import Golden

from retro_lab.__main__ import main as retro_lab
from retro_lab.commands.generate import main
from retro_lab.commands.generate_request import Request, parse
from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import baseline_of
from retro_lab.config.schema import HttpRetrieverConfig
from retro_lab.nn.decode.sampling import Sampler
from retro_lab.retrieval.new_text import GivenNeighbours, NewTextSearch
from retro_lab.retrieval.service.client import HttpRetriever, Service
from retro_lab.run.directory import RunDirectory
from retro_lab.run.finished import FinishedRun
from retro_lab.run.writer import Reading, Text, Writer, check_writable
from retro_lab.text.corpus import Corpus
from retro_lab.text.tokenizers.byte import ByteTokenizer


@pytest.fixture(scope="module")
def writer(finished: RunDirectory) -> Writer:
    return Writer.load(Request(finished.path))


@pytest.fixture
def database(writer: Writer) -> NewTextSearch:
    assert isinstance(writer.source, NewTextSearch)
    return writer.source


@pytest.fixture
def corpus(finished: RunDirectory) -> Corpus:
    return FinishedRun.open(finished).graph.corpus


def request(finished: RunDirectory, tokens: int = 40, **fields: Any) -> Request:
    return Request(finished.path, tokens=tokens, **fields)


def written(writer: Writer, asked: Request, *prompts: str) -> list[str]:
    texts = [""] * len(prompts)
    for row, piece in writer.write(prompts, asked):
        texts[row] += piece
    return texts


def test_text_is_streamed_and_the_same_for_the_same_seed(
    finished: RunDirectory, writer: Writer
) -> None:
    def text(seed: int) -> list[str]:
        return written(writer, request(finished, tokens=12, seed=seed), "abcd efgh")

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_it_draws_from_what_a_full_forward_pass_with_searches_says(
    finished: RunDirectory,
    writer: Writer,
    database: NewTextSearch,
    corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, tokens, draw = [], [], Sampler.draw

    def spy(sampler: Sampler, logits: torch.Tensor, rows: list[int]) -> list[int]:
        seen.append(logits[0].log_softmax(-1))
        tokens.extend(draw(sampler, logits.clone(), rows))
        return tokens[-1:]

    monkeypatch.setattr(Sampler, "draw", spy)
    prompt, tokenizer = corpus.text(0)[:60], writer.tokenizer
    [text] = written(writer, request(finished, temperature=0.0), prompt)
    start = writer.encode(prompt)
    ids = torch.tensor([*start, *tokens[:-1]])
    size = writer.model.config.chunk_size
    chunks = ids[: len(ids) // size * size].view(-1, size).tolist()
    assert len(chunks) > len(start) // size + 1
    found, _ = database.search(chunks)
    with torch.no_grad():
        expected = writer.model(ids.unsqueeze(0), torch.from_numpy(found).unsqueeze(0))[0]
    expected = expected[len(start) - 1 :].log_softmax(-1)
    torch.testing.assert_close(torch.stack(seen), expected, rtol=0.0, atol=1e-4)
    assert text == tokenizer.decode([*start, *tokens])[len(prompt) :]


def test_a_batch_of_prompts_gives_what_each_gives_alone(
    finished: RunDirectory, writer: Writer, corpus: Corpus
) -> None:
    prompts = [corpus.text(0)[:length] for length in (10, 0, 130)]
    for fields in ({}, {"stride": 5, "left_pad": True}):
        asked = request(finished, tokens=9, seed=3, **fields)
        together = written(writer, asked, *prompts)
        alone = [
            written(writer, request(finished, tokens=9, seed=3 + i, **fields), prompt)[0]
            for i, prompt in enumerate(prompts)
        ]
        assert together == alone


def test_a_stride_of_the_chunk_size_is_the_default(finished: RunDirectory, writer: Writer) -> None:
    size = writer.model.config.chunk_size
    asked = [request(finished, tokens=24, stride=stride) for stride in (None, size, size - 1)]
    texts = [written(writer, one, "abcd efgh")[0] for one in asked]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def readings(writer: Writer, asked: Request, prompt: str) -> list[Reading]:
    shown: list[Reading] = []
    list(writer.write([prompt], asked, shown.append))
    return shown


def test_a_copied_prompt_finds_its_document_at_every_chunk(
    finished: RunDirectory, writer: Writer, corpus: Corpus
) -> None:
    text = corpus.text(corpus.ids.index("train-03"))
    shown = readings(writer, request(finished, tokens=1), text[:200])
    size = writer.model.config.chunk_size
    assert [one.end for one in shown] == [size * n for n in range(1, len(shown) + 1)]
    assert len(shown) > 3
    for _, _, found in shown:
        assert found[0].document == "train-03"
        assert found[0].score is not None
        assert found[0].text in text
        assert found[0].score >= (found[-1].score or 0.0)


def test_a_stride_searches_with_the_latest_tokens(
    finished: RunDirectory, writer: Writer, database: NewTextSearch, corpus: Corpus
) -> None:
    prompt = corpus.text(corpus.ids.index("train-03"))[:120]
    ids, size = writer.encode(prompt), writer.model.config.chunk_size
    shown = readings(writer, request(finished, tokens=1, stride=5), prompt)
    assert [one.end for one in shown] == list(range(5, len(ids) + 1, 5))
    for _, end, found in shown:
        assert found == database.search([ids[max(0, end - size) : end]])[1][0]


def test_left_padding_reads_before_the_first_new_token(
    finished: RunDirectory, writer: Writer
) -> None:
    prompt = "abcd efgh"
    end = len(writer.encode(prompt))
    assert end < writer.model.config.chunk_size
    assert readings(writer, request(finished, tokens=1), prompt) == []
    [reading] = readings(writer, request(finished, tokens=1, left_pad=True), prompt)
    assert reading.end == end
    assert reading.found


def test_the_command_shows_neighbours_on_request(
    finished: RunDirectory, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = corpus.text(corpus.ids.index("train-03"))[:120]
    argv = ["generate", f"run={finished.path}", f"prompt={prompt}", "tokens=5"]
    assert retro_lab([*argv, "show=neighbours"]) == 0
    printed = capsys.readouterr().out
    assert "[chunk 1 read 2 neighbours]" in printed
    assert "  train-03  " in printed
    neighbours = [line for line in printed.splitlines() if line.startswith("  train-")]
    assert max(map(len, neighbours)) <= 80
    assert retro_lab([*argv, "show=text", "stride=7"]) == 0
    printed = capsys.readouterr().out
    assert "[token 7 read 2 neighbours]" in printed
    assert "\n    | " in printed
    assert retro_lab([*argv, "retrieval=off"]) == 0
    assert "neighbours" not in capsys.readouterr().out
    assert retro_lab([*argv[:2], "prompt=abcd", "tokens=1", "show=neighbours"]) == 0
    assert "[nothing was read: a search comes every 16 tokens; left" in capsys.readouterr().out


def test_a_batch_is_printed_prompt_by_prompt(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [f"run={finished.path}", "prompt=abcd", "prompt=efgh", "tokens=3", "left_pad=on"]
    assert main([*argv, "show=neighbours"]) == 0
    first, second = capsys.readouterr().out.split("[prompt 2: efgh]\n")
    assert first.startswith("[prompt 1: abcd]\n\n[chunk 1 read 2 neighbours]\n")
    assert second.startswith("\n[chunk 1 read 2 neighbours]\n")


def test_given_neighbours_are_read_in_place_of_found_ones(
    finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "neighbours.txt"
    file.write_text("ghij aaaa\nbcde\n---\n" + "efgh " * 80)
    argv = [f"run={finished.path}", "prompt=abcd efgh", "tokens=1", "left_pad=on", "show=text"]
    assert main([*argv, "neighbours_text=ffff gggg", f"neighbours_file={file}"]) == 0
    printed = capsys.readouterr().out
    assert "[chunk 1 read 3 neighbours]\n  given 1\n    | ffff gggg\n  given 2\n" in printed
    assert "    | ghij aaaa\n    | bcde\n  given 3, first 32 of " in printed


def test_given_text_stands_where_the_model_reads(writer: Writer) -> None:
    text = "abcd " * 60
    for value in ("both", "neighbour", "continuation"):
        config = writer.model.config.__class__(**{**vars(writer.model.config), "value": value})
        size = config.chunk_size
        [row] = GivenNeighbours([text], writer.tokenizer, config).tokens
        places = np.flatnonzero(row != config.pad_id)
        expected = {"both": (0, 2 * size), "neighbour": (0, size), "continuation": (size, 2 * size)}
        assert (places[0], places[-1] + 1) == expected[value]


class ServedHere(HttpRetriever):
    """`retriever=http` asks an application in this process."""

    app: ClassVar[Any]

    @classmethod
    def connect(cls, config: HttpRetrieverConfig) -> Service:
        from fastapi.testclient import TestClient

        return Service(config, client=TestClient(cls.app, base_url=config.url))


def test_a_service_gives_what_the_run_finds_itself(
    golden: Golden, finished: RunDirectory, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retro_lab.commands.serve import open_run
    from retro_lab.retrieval.search.registry import BACKENDS
    from retro_lab.retrieval.service.server import Limits, create_app
    from retro_lab.run.data.graph import DataGraph

    ServedHere.app = create_app(open_run(finished).text_search(), Limits(), None)
    monkeypatch.setitem(BACKENDS, HttpRetrieverConfig, f"{__name__}:ServedHere")
    config = golden.config("retriever=http", "retriever.url=http://service")
    graph = DataGraph(config)
    served = graph.search(config.retriever, writer.model.config, config.neighbours.k)
    over_http = Writer(writer.model, writer.tokenizer, served, writer.window)
    asked, prompt = request(finished, stride=5, left_pad=True), "abcd efgh abcd"
    assert readings(over_http, asked, prompt) == readings(writer, asked, prompt)
    assert written(over_http, asked, prompt) == written(writer, asked, prompt)


def type_in(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Makes `input` return these lines and then end."""
    typed = iter(lines)

    def answer(_: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", answer)


def test_without_a_prompt_it_asks_until_the_input_ends(
    finished: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(monkeypatch, "abcd", "efgh")
    assert main([f"run={finished.path}", "tokens=3", "show=neighbours", "left_pad=on"]) == 0
    assert capsys.readouterr().out.count("[chunk 1 read 2 neighbours]") == 2


def test_quit_ends_it_and_an_unknown_word_lists_the_commands(
    finished: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(monkeypatch, "/help", "abcd", "/quit", "never read")
    assert main([f"run={finished.path}", "tokens=3"]) == 0
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert "/help is no command; there are /neighbours TEXT" in printed.err
    assert "/quit" in printed.err
    assert printed.out.startswith("abcd")  # the prompt and what goes on from it
    assert "never read" not in printed.out


def test_neighbours_can_be_typed(
    finished: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(
        monkeypatch,
        *("/neighbours ffff gggg", "/neighbours hhhh", "abcd", "/neighbours off", "abcd"),
        *("/neighbours", "/neighboursabcd"),
    )
    assert main([f"run={finished.path}", "tokens=3", "show=neighbours", "left_pad=on"]) == 0
    printed = capsys.readouterr().out
    assert "  given 1\n    | ffff gggg\n  given 2\n    | hhhh\n" in printed
    assert "[chunk 1 read 2 neighbours]\n  given 1  ffff gggg\n  given 2  hhhh\n" in printed
    after = printed.split("reads what a search finds\n")
    assert len(after) == 3
    assert "  given 1  ffff" not in after[1]
    assert "[chunk 1 read 2 neighbours]\n  train-" in after[1]


def test_a_baseline_takes_no_typed_neighbours(
    golden: Golden,
    finished: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    type_in(monkeypatch, "/neighbours ffff", "/neighbours", "abcd")
    baseline = RunDirectory.of(baseline_of(finished.config())).path
    assert main([f"run={baseline}", "tokens=3"]) == 0
    printed = capsys.readouterr()
    assert "this run is a baseline" in printed.err
    assert printed.out.startswith("reads no neighbours\n")


def test_text_beyond_the_trained_window_is_warned_about(
    finished: RunDirectory, writer: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = "abcd " * writer.window
    assert main([f"run={finished.path}", f"prompt={prompt}", "tokens=2", "retrieval=off"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("warning: ")
    assert f"windows of {writer.window:,}" in error


def test_characters_are_given_out_whole_and_once() -> None:
    tokenizer, written = ByteTokenizer(), "né 😀 x"
    text = Text(tokenizer, [])
    pieces = [text.add(byte) for byte in written.encode()]
    assert "".join(pieces) == written
    assert not any("\ufffd" in piece for piece in pieces)
    assert text.rest() == ""
    text.add("é".encode()[0])
    assert text.rest() == "\ufffd"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "generate needs run"),
        (["run=nowhere"], "nowhere is not a run directory"),
        (["run=r", "promt=x"], "did you mean prompt=...?"),
        (["run=r", "show"], "show has no value"),
        (["run=r", "seed=1", "seed=2"], "seed is given twice"),
        (["run=r", "tokens=0"], "tokens=0: expected a whole number of at least 1"),
        (["run=r", "tokens=many"], "expected a whole number"),
        (["run=r", "temperature=nan"], "temperature=nan: expected a number of at least 0"),
        (["run=r", "top_p=0"], "top_p=0: expected a number above 0 and at most 1"),
        (["run=r", "top_p=1.5"], "top_p=1.5: expected a number above 0 and at most 1"),
        (["run=r", "retrieval=maybe"], "retrieval=on or retrieval=off"),
        (["run=r", "stride=0"], "stride=0: expected a whole number of at least 1"),
        (["run=r", "device=tpu"], "device=auto or device=cpu or device=cuda"),
        (["run=r", "neighbours_text=x", "retrieval=on"], "contradict each other"),
        (["run=r", "neighbours_text=x", "neighbours_text="], "neighbours_text has no value"),
        (["run=r", "neighbours_file=nowhere.txt"], "neighbours_file=nowhere.txt cannot be read"),
        (["run=r", "stride=2", "retrieval=off"], "retrieval=off reads none"),
    ],
)
def test_mistakes_are_one_message(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "prompt=x"]) == 2
    assert expected in capsys.readouterr().err


def test_a_stride_that_does_not_fit_the_run_is_one_message(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"run={finished.path}", "prompt=x", "stride=17"]) == 2
    assert "stride=17: at most 16, the run's chunk size" in capsys.readouterr().err


def test_an_empty_file_of_neighbours_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "neighbours.txt"
    file.write_text("\n---\n")
    with pytest.raises(UserError, match="has no text"):
        parse(["run=r", f"neighbours_file={file}"])


def test_cuda_is_refused_where_there_is_none(
    finished: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device"):
        Writer.load(request(finished, device="cuda"))


def test_a_baseline_writes_but_does_not_search(
    golden: Golden, finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = RunDirectory.of(baseline_of(finished.config())).path
    for argument in ("retrieval=on", "stride=4", "left_pad=on", "neighbours_text=x"):
        assert main([f"run={baseline}", "prompt=abcd", "tokens=3", argument]) == 2
        assert "is a baseline" in capsys.readouterr().err
    assert main([f"run={baseline}", "prompt=abcd", "tokens=3"]) == 0


@pytest.mark.parametrize("retriever", ["none", "bm25"])
def test_a_run_on_a_pretrained_model_is_to_be_exported(tmp_path: Path, retriever: str) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    directory.describe(config_of("recipe.backbone=gpt2", f"retriever={retriever}"))
    directory.enter("trained")
    with pytest.raises(UserError, match="is a run on gpt2") as raised:
        check_writable(FinishedRun.open(directory))
    assert "export run=" in str(raised.value)
