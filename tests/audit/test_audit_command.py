"""Contract of `audit`: one page, one JSON, files that others read, and an exit code: 0 if no check
failed, 1 if one failed, 2 for bad input, said in one message."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import orjson
import pytest
from drawn_texts import sentences
from page_checks import check_page, json_of

from retro_lab.__main__ import main
from retro_lab.audit.audit import Audit, Settings
from retro_lab.audit.exports import FILES, write_exports


def audit(folder: Path, *words: str) -> int:
    given = [f"text={folder / 'test.jsonl'}", f"out={folder / 'out'}", *words]
    return main(["audit", *given])


def test_an_honest_scorer_passes(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(files, "scorer=scorers:Honest", f"train={files / 'train.jsonl'}", "sample=2") == 0
    out = files / "out"
    assert {path.name for path in out.iterdir()} == {*FILES, "audit.html"}
    page = (out / "audit.html").read_text(encoding="utf-8")
    check_page(page)
    assert page.count('<div class="passed">') == 6
    record = orjson.loads((out / "audit.json").read_bytes())
    assert record["passed"] is True
    assert [check["outcome"] for check in record["checks"]] == ["passed"] * 6
    assert f"{record['bpb']:.4f} bits per byte" in page
    [figure] = json_of(page)
    assert figure["series"][0]["values"][-1] == pytest.approx(record["bpb"], rel=1e-5)
    said = capsys.readouterr().out
    assert "audit.html" in said
    assert said.count("passed") == 6


def test_leaked_text_fails_and_is_exported(files: Path) -> None:
    copied = orjson.loads((files / "test.jsonl").read_bytes().splitlines()[3])
    rows = [(files / "train.jsonl").read_bytes(), orjson.dumps({"text": f"> {copied['text']}"})]
    (files / "leaky.jsonl").write_bytes(b"\n".join(rows))
    given = "scorer=scorers:letters", f"train={files / 'leaky.jsonl'}"
    assert audit(files, *given, "min_run=50", "sample=1") == 1
    out = files / "out"
    assert (out / "leaked_documents.txt").read_text() == "test3\n"
    [line] = (out / "leaked_documents.jsonl").read_bytes().splitlines()
    assert orjson.loads(line)["example"] == copied["text"]
    page = (out / "audit.html").read_text(encoding="utf-8")
    check_page(page)
    assert '<th scope="row">test3</th>' in page


def test_lm_eval_reads_the_curve(files: Path) -> None:
    utils = pytest.importorskip("lm_eval.utils")
    train = f"train={files / 'train.jsonl'}"
    assert audit(files, "scorer=scorers:letters", train, "sample=1") == 0
    table = utils.make_table(orjson.loads((files / "out/lm_eval.json").read_bytes()))
    [row] = [line for line in table.splitlines() if line.startswith("|audit ")]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[5] == "bits_per_byte"
    assert float(cells[7]) == 8


def test_tables_have_the_figures_of_the_record(files: Path) -> None:
    train = f"train={files / 'train.jsonl'}"
    assert audit(files, "scorer=scorers:Honest", train, "sample=1") == 0
    out = files / "out"
    points = orjson.loads((out / "audit.json").read_bytes())["curve"]
    rows = list(csv.DictReader(io.StringIO((out / "tables.csv").read_text())))
    assert [float(row["bpb"]) for row in rows if row["bpb"]] == [
        point["bpb"] for point in points if point["bpb"] is not None
    ]
    tex = (out / "tables.tex").read_text()
    assert f"{points[-1]['bpb']:.4f}" in tex
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 2


def test_names_with_marks_of_tex_are_escaped(tmp_path: Path) -> None:
    """Question marks and names come from outside; LaTeX must not read commands in them."""
    from retro_lab.audit.exports import _tabular

    assert r"a\_b \& 5\% \textbackslash{}x" in _tabular("l", ["h"], [["a_b & 5% \\x"]])
    none = Audit("s", "t", 1, 1, 1, None, None, Settings(), [], [], None)
    write_exports(none, tmp_path)
    assert orjson.loads((tmp_path / "audit.json").read_bytes())["bpb"] is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "something to audit"),
        (["scorer=scorers:Honest", "run=runs/x"], "scorer and run"),
        (["scorer=scorers:Nothing"], "has no Nothing"),
        (["scorer=no_such_module:Scorer"], "no module no_such_module"),
        (["scorer=scorers:letters", "learns=on"], "learns=on needs"),
        (["scores=missing.parquet"], "missing.parquet does not exist"),
        (["scorer=scorers:Honest", "train=missing.jsonl"], "missing.jsonl does not exist"),
        (["scorer=scorers:Honest", "text_field=body"], "text_field=text"),
        (["model=no/such/folder/here"], "model=no/such/folder/here"),
    ],
)
def test_bad_input_is_one_message(
    words: list[str], told: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(files, *words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert told in said
    assert "fix:" in said
    assert not (files / "out").exists(), "nothing is written"


def test_text_is_read_in_every_format(tmp_path: Path) -> None:
    for number, text in enumerate(sentences(2, 0)):
        (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
    for given in (tmp_path, tmp_path / "0.txt"):
        out = f"out={tmp_path / 'out'}"
        assert main(["audit", "scorer=scorers:letters", f"text={given}", out, "sample=1"]) == 0
    record = orjson.loads((tmp_path / "out/audit.json").read_bytes())
    assert record["documents"] == 1
