"""Contract: a scores file says which bytes its tokens have, every byte counts once, and scores
alone are refuted where documents begin alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawn_texts import as_texts

from retro_lab.audit.audit import Audit, Given, Settings, audit
from retro_lab.audit.scores import read_scores
from retro_lab.audit.texts import Text
from retro_lab.config.errors import UserError

TEXTS = as_texts(["ab cd", "ab é", "xy"])
Row = dict[str, Any]


def rows_of(texts: Sequence[Text], nats: float = 5.0, **more: Any) -> list[Row]:
    """A token for each byte."""
    return [
        {"document": text.id, "start": n, "stop": n + 1, "nats": nats, **more}
        for text in texts
        for n in range(len(text.raw))
    ]


def write(rows: Sequence[Row], path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return path


def audited(
    rows: Sequence[Row], folder: Path, name: str = "scores.jsonl", *, learns: bool = False
) -> Audit:
    scores = read_scores(write(rows, folder / name), TEXTS)
    given = Given("scores", "test", TEXTS, scores, None, None)
    return audit(given, Settings(learns=learns))


def check(done: Audit, name: str) -> tuple[bool | None, float | None]:
    return next((each.passed, each.figure) for each in done.checks if each.name == name)


def reworded(rows: Sequence[Row], **columns: Any) -> list[Row]:
    """Rows with columns made from themselves in place of start and stop."""
    left = [{key: row[key] for key in row if key not in ("start", "stop")} for row in rows]
    return [
        {**kept, **{name: make(row) for name, make in columns.items()}}
        for kept, row in zip(left, rows, strict=True)
    ]


@pytest.mark.parametrize("name", ["scores.jsonl", "scores.parquet"])
def test_bytes_may_be_told_in_three_ways(name: str, tmp_path: Path) -> None:
    rows = rows_of(TEXTS[::2])
    pieces = {text.id: text.text for text in TEXTS}
    whole = [{"document": "d1", "start": 0, "stop": 5, "nats": 5.0}]
    ways = [
        [*rows, *whole],
        reworded([*rows, *whole], bytes=lambda row: row["stop"] - row["start"]),
        reworded(
            [*rows, *whole],
            token=lambda row: pieces[row["document"]].encode()[row["start"] : row["stop"]].decode(),
        ),
    ]
    for way in ways:
        done = audited(way, tmp_path, name)
        assert check(done, "bytes") == (True, 1.0)
        assert done.bpb == pytest.approx(5 * 8 / math.log(2) / 12)


def test_logprob_is_minus_nats_and_documents_may_be_numbered(tmp_path: Path) -> None:
    number = {text.id: n for n, text in enumerate(TEXTS)}
    rows = rows_of(TEXTS)
    told = [
        {"document": number[row["document"]], "bytes": 1, "logprob": -row["nats"]} for row in rows
    ]
    assert audited(told, tmp_path).bpb == pytest.approx(audited(rows, tmp_path).bpb)


@pytest.mark.parametrize(
    ("cheat", "told"),
    [
        (lambda rows: [*rows, rows[0]], "scored more than once"),
        (lambda rows: [{**row, "stop": row["start"] + 2} for row in rows], "beyond the end"),
        (lambda rows: rows[1:], "never scored"),
        (lambda rows: [row for row in rows if row["document"] != "d1"], "never scored"),
        (lambda rows: [*rows, {**rows[0], "document": "other"}], "the text does not have"),
        (lambda rows: [rows[1], rows[0], *rows[2:]], "order"),
    ],
)
def test_a_byte_that_is_not_scored_once_fails(cheat: Any, told: str, tmp_path: Path) -> None:
    done = audited(cheat(rows_of(TEXTS)), tmp_path)
    found = next(each for each in done.checks if each.name == "bytes")
    assert found.passed is False
    assert told in found.words
    assert done.failed


def test_bytes_counted_twice_do_not_lower_the_figure(tmp_path: Path) -> None:
    """bpb is over the bytes of the text, whatever the file says."""
    rows = reworded(rows_of(TEXTS), bytes=lambda row: 2)
    done = audited(rows, tmp_path)
    assert check(done, "bytes") == (False, 2.0)
    assert done.bpb == pytest.approx(audited(rows_of(TEXTS), tmp_path).bpb)


def test_a_token_that_is_not_in_the_text_fails(tmp_path: Path) -> None:
    rows = reworded(rows_of(TEXTS[:1]), token=lambda row: "z")
    found = next(c for c in audited(rows, tmp_path).checks if c.name == "bytes")
    assert "not what the text has" in found.words


def first_bytes(nats: dict[str, float]) -> list[Row]:
    """Every token at 5 nats, but the first of each document."""
    return [
        {**row, "nats": nats[row["document"]]} if row["start"] == 0 else row
        for row in rows_of(TEXTS)
    ]


def test_sums_over_documents_that_begin_alike_are_bounded(tmp_path: Path) -> None:
    """`a` and `x` both begin a document: their probabilities can't sum to more than one."""
    low, high = -math.log(0.7), -math.log(0.2)
    done = audited(first_bytes({"d0": low, "d1": low, "d2": low}), tmp_path)
    assert check(done, "normalised") == (False, pytest.approx(1.4))
    done = audited(first_bytes({"d0": low, "d1": low, "d2": high}), tmp_path)
    assert check(done, "normalised") == (None, pytest.approx(0.9)), "a bound is no proof"
    assert not done.failed


def test_the_same_token_after_the_same_text_has_one_score(tmp_path: Path) -> None:
    rows = first_bytes({"d0": 5.0, "d1": 4.0, "d2": 5.0})
    assert check(audited(rows, tmp_path), "causal") == (False, 1.0)
    assert check(audited(rows_of(TEXTS), tmp_path), "causal") == (None, 0.0)
    assert check(audited(rows, tmp_path, learns=True), "causal")[0] is None, "it may have learned"


def test_a_probability_above_one_fails(tmp_path: Path) -> None:
    done = audited(rows_of(TEXTS, nats=-0.5), tmp_path)
    assert check(done, "normalised") == (False, pytest.approx(math.exp(0.5)))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"start": 0, "stop": 1, "nats": 1.0}, "no column document"),
        ({"document": "d0", "start": 0, "stop": 1}, "one of the columns nats and logprob"),
        ({"document": "d0", "nats": 1.0}, "which bytes"),
        ({"document": "d0", "bytes": "one", "nats": 1.0}, "no numbers"),
        ({"document": "d0", "bytes": 1, "nats": None}, "row 1"),
    ],
)
def test_a_file_without_a_column_is_refused(row: Row, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        read_scores(write([row], tmp_path / "scores.jsonl"), TEXTS)
