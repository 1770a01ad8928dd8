"""Contract of `generate`: a finished run continues a prompt, reading its own database at chunk
ends; what it prints follows from the arguments alone, and a mistake is one message.
"""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch
from golden import Golden

from retro_lab.__main__ import main as retro_lab
from retro_lab.app import generate
from retro_lab.app.generate import Request, Text, Writer, draw, main, parse
from retro_lab.app.run_directory import RunDirectory
from retro_lab.config.fingerprints import baseline_of
from retro_lab.text.corpus import Corpus
from retro_lab.text.tokenizers.byte import ByteTokenizer


@pytest.fixture(scope="module")
def writer(finished: RunDirectory) -> Writer:
    return Writer.load(Request(finished.path))


@pytest.fixture(scope="module")
def corpus(writer: Writer) -> Corpus:
    assert writer.database is not None
    return writer.database.corpus


def request(finished: RunDirectory, tokens: int = 40, **fields: Any) -> Request:
    return Request(finished.path, tokens=tokens, **fields)


def test_text_is_streamed_and_the_same_for_the_same_seed(
    finished: RunDirectory, writer: Writer
) -> None:
    def text(seed: int) -> str:
        return "".join(writer.write("abcd efgh", request(finished, tokens=12, seed=seed)))

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_it_draws_from_what_a_full_forward_pass_with_searches_says(
    finished: RunDirectory, writer: Writer, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, tokens = [], []

    def spy(logits: torch.Tensor, *rest: Any) -> int:
        seen.append(logits.log_softmax(-1))
        tokens.append(draw(logits.clone(), *rest))
        return tokens[-1]

    monkeypatch.setattr(generate, "draw", spy)
    prompt, tokenizer, database = corpus.text(0)[:60], writer.tokenizer, writer.database
    assert database is not None
    text = "".join(writer.write(prompt, request(finished, temperature=0.0)))
    start = [tokenizer.boundary_id, *tokenizer.encode_batch([prompt])[0].ids.tolist()]
    ids = torch.tensor([*start, *tokens[:-1]])
    size = writer.model.config.chunk_size
    chunks = ids[: len(ids) // size * size].view(-1, size).numpy()
    assert len(chunks) > len(start) // size + 1
    found, _ = database.search(chunks, [tokenizer.decode(chunk) for chunk in chunks.tolist()])
    with torch.no_grad():
        expected = writer.model(ids.unsqueeze(0), torch.from_numpy(found).unsqueeze(0))[0]
    expected = expected[len(start) - 1 :].log_softmax(-1)
    torch.testing.assert_close(torch.stack(seen), expected, rtol=0.0, atol=1e-4)
    assert text == tokenizer.decode([*start, *tokens])[len(prompt) :]


def test_a_copied_prompt_finds_its_document_at_every_chunk(
    finished: RunDirectory, writer: Writer, corpus: Corpus
) -> None:
    document = corpus.ids.index("train-03")
    shown = {}
    asked = request(finished, tokens=1)
    list(
        writer.write(corpus.text(document)[:200], asked, lambda n, found: shown.update({n: found}))
    )
    assert list(shown) == list(range(1, len(shown) + 1))
    assert len(shown) > 3
    for found in shown.values():
        assert found[0].document == "train-03"
        assert found[0].score >= found[-1].score
        assert found[0].line in corpus.text(document)


def test_the_command_shows_neighbours_on_request(
    finished: RunDirectory, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = corpus.text(corpus.ids.index("train-03"))[:120]
    argv = ["generate", f"run={finished.path}", f"prompt={prompt}", "tokens=5", "show=neighbours"]
    assert retro_lab(argv) == 0
    printed = capsys.readouterr().out
    assert "[chunk 1 read 2 neighbours]" in printed
    assert "  train-03  " in printed
    assert retro_lab([*argv[:-1], "retrieval=off"]) == 0
    assert "neighbours" not in capsys.readouterr().out


def test_without_a_prompt_it_asks_until_the_input_ends(
    finished: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["abcd", "efgh"])

    def answer(_: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", answer)
    assert main([f"run={finished.path}", "tokens=3"]) == 0
    assert len(capsys.readouterr().out.rstrip("\n")) > 0
    assert next(typed, None) is None


def test_top_k_and_padding_limit_what_is_drawn() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, 9.0])
    generator = torch.Generator().manual_seed(0)

    def drawn(**fields: float) -> set[int]:
        asked = parse(["run=r", *(f"{key}={value}" for key, value in fields.items())])
        return {draw(logits.clone(), asked, generator, pad_id=3) for _ in range(200)}

    assert drawn(temperature=5) == {0, 1, 2}
    assert drawn(temperature=5, top_k=2) == {1, 2}
    assert drawn(temperature=0) == {2}


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
        ([], "generate needs a run"),
        (["run=nowhere"], "nowhere is not a run directory"),
        (["run=r", "promt=x"], "did you mean prompt=...?"),
        (["run=r", "tokens=0"], "tokens=0: expected a whole number of at least 1"),
        (["run=r", "tokens=many"], "expected a whole number"),
        (["run=r", "temperature=nan"], "temperature=nan: expected a number of at least 0"),
        (["run=r", "retrieval=maybe"], "retrieval=on or retrieval=off"),
    ],
)
def test_mistakes_are_one_message(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "prompt=x"]) == 2
    assert expected in capsys.readouterr().err


def test_a_baseline_writes_but_does_not_search(
    golden: Golden, finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = RunDirectory.of(baseline_of(finished.config())).path
    assert main([f"run={baseline}", "prompt=abcd", "tokens=3", "retrieval=on"]) == 2
    assert "is a baseline" in capsys.readouterr().err
    assert main([f"run={baseline}", "prompt=abcd", "tokens=3"]) == 0
