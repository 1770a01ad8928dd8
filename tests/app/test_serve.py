"""Contract: `serve` refuses a wrong command line, an address that others reach without an API key,
and a run without an index of its own, each with a fix; its completions are what `generate` writes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from retro_lab.commands.serve import main, open_run, parse
from retro_lab.config.compose import load_config
from retro_lab.config.errors import UserError
from retro_lab.run.completions import completer_of
from retro_lab.run.directory import RunDirectory
from retro_lab.run.writer import Reading, Request, Writer


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["port=1"], "serve needs run"),
        (["run=x", "prot=1"], "prot is not a key of serve"),
        (["run=x", "port=many"], "port=many: expected a whole number"),
        (["run=x", "port=65536"], "at most 65535"),
        (["run=x", "timeout=nan"], "timeout=nan: expected a number"),
        (["run=x", "timeout=inf"], "timeout=inf: expected a number"),
        (["run=x", "max_bytes=99999999999"], "at most 2147483647"),
        (["run=x", "host=0.0.0.0"], r"host=0\.0\.0\.0: anyone who reaches it"),
        (["run=x", "host=::"], "anyone who reaches it"),
        (["run=x", "host=example.org"], "anyone who reaches it"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RETRO_LAB_API_KEY", raising=False)
    with pytest.raises(UserError, match=says):
        parse(arguments)


def test_a_right_command_line_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRO_LAB_API_KEY", raising=False)
    assert parse(["run=x"]).host == "127.0.0.1"
    assert parse(["run=x", "host=::1"]).api_key is None
    assert parse(["run=x", "host=0.0.0.0", "api_key=s"]).api_key == "s"
    monkeypatch.setenv("RETRO_LAB_API_KEY", "e")
    assert parse(["run=x", "host=0.0.0.0"]).api_key == "e"
    assert parse(["run=x", "timeout=5", "max_k=7"]).limits == {
        "max_k": 7,
        "timeout": 5.0,
    }


def test_a_run_without_an_index_is_not_served(tmp_path: Path) -> None:
    for retriever in ("none", "http"):
        run = RunDirectory(tmp_path / retriever)
        run.begin(load_config([f"retriever={retriever}"]), anew=True)
        with pytest.raises(UserError, match=f"no index of its own: retriever={retriever}"):
            open_run(run).text_search()


def test_a_completion_is_what_generate_writes_and_reads(finished: RunDirectory) -> None:
    from fastapi.testclient import TestClient

    from retro_lab.retrieval.service.server import create_app

    run = open_run(finished)
    app = create_app(run.text_search(), completer=completer_of(run))
    asked = {"prompt": ["abcd efgh", "abcd"], "max_tokens": 20, "temperature": 0.8, "seed": 3}
    answer = TestClient(app).post("/v1/completions", json={**asked, "show_neighbours": True}).json()
    texts, read, writer = ["", ""], list[Reading](), Writer.load(Request(finished.path))
    request = Request(finished.path, tokens=20, seed=3)
    for row, piece in writer.write(asked["prompt"], request, read.append):
        texts[row] += piece
    assert [choice["text"] for choice in answer["choices"]] == texts
    assert answer["usage"]["completion_tokens"] == sum(writer.counts)
    told = [(n["index"], n["tokens"], n["text"]) for n in answer["retro_lab"]["neighbours"]]
    assert told == [(one.row, one.end, found.text) for one in read for found in one.found]
    assert told
    assert answer["model"] == finished.path.name


def test_an_untrained_run_has_no_completions(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "begun")
    run.begin(load_config(["retriever=bm25"]), anew=True)
    refused = completer_of(open_run(run))
    assert isinstance(refused, UserError)
    assert "is not trained to its end" in refused.message


def test_a_mistake_is_one_message_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run=nowhere", "port=0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: nowhere is not a run directory")
    assert "Traceback" not in error
