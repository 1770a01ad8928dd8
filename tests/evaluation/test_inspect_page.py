"""Contract of the page: every byte of the text is on it, colours follow the gain, marked runs are
those shared with a neighbour beside it, neighbours are those read, and it needs nothing else."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_checks import check_page, json_of

from retro_lab.evaluation.report.pages.inspect_data import Inspection, ReadNeighbours, shared_tokens
from retro_lab.evaluation.report.pages.inspect_page import render, shade, write_page
from retro_lab.evaluation.report.pages.inspect_text import ShownText
from retro_lab.retrieval.table import NeighbourTable
from retro_lab.text.chunks import ChunkStore

PAD, BOUNDARY = 257, 256
M = 16
TEXTS = [
    "The cat sat on the mat & slept — all day.",
    "Nobody knows why\nthe cat sat on the mat <b>twice</b>; é, 漢字 and 🙂 too.",
    "",
]


class BytesCorpus:
    """A corpus held in memory, of byte tokens."""

    ids = ["first.txt", "a<b>&.txt", "empty.txt"]

    def __init__(self) -> None:
        self.raws = [text.encode() for text in TEXTS]
        self.all = b"".join(self.raws)

    def raw(self, document: int) -> bytes:
        return self.raws[document]

    def raw_span(self, start: int, stop: int) -> bytes:
        return self.all[start:stop]


@pytest.fixture
def inspection(tmp_path: Path) -> Inspection:
    corpus = BytesCorpus()
    tokens, sizes, document, index, start = [], [], [], [], []
    position = 0
    for number, raw in enumerate(corpus.raws):
        row = [BOUNDARY, *raw]
        row += [PAD] * (-len(row) % M)
        for place, begin in enumerate(range(0, len(row), M)):
            tokens.append(row[begin : begin + M])
            sizes.append([int(token < BOUNDARY) for token in tokens[-1]])
            document.append(number)
            index.append(place)
            start.append(position)
            position += sum(sizes[-1])
    arrays = {
        "tokens": np.array(tokens, np.uint16),
        "token_bytes": np.array(sizes, np.uint32),
        "document": np.array(document, np.int32),
        "index": np.array(index, np.int32),
        "text_start": np.array(start, np.int64),
        "first_chunk": np.searchsorted(document, np.arange(len(TEXTS) + 1)).astype(np.int64),
        "split": np.zeros(len(tokens), np.uint8),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "meta.json").write_text('{"vocab_size": 258, "boundary_id": 256, "pad_id": 257}')
    store = ChunkStore.open(tmp_path)
    ids = np.full((store.num_chunks, 2), -1, np.int32)
    ids[store.document == 1, 0] = 0  # the beginning of the first document, for every chunk
    ids[store.first_chunk[2] - 1, 0] = 1  # a last chunk's neighbours are read by none
    scores = np.where(ids >= 0, 0.5, -np.inf).astype(np.float32)
    table = NeighbourTable(ids, scores)
    text = ShownText(store, corpus)  # pyright: ignore
    return Inspection(store, corpus, ReadNeighbours(text, table, k=2))  # pyright: ignore


def gains(inspection: Inspection, document: int) -> np.ndarray:
    first, last = inspection.chunks.first_chunk[document : document + 2]
    size = (int(last - first), M)
    return np.random.default_rng(document).normal(0, 2, size)


def page(inspection: Inspection, document: int = 1, **more: np.ndarray) -> str:
    found = inspection.document(document, gains(inspection, document), **more)
    return render([found], title="run", description="on over baseline")


def test_all_text_is_there_and_gains_add_up(inspection: Inspection) -> None:
    found = inspection.document(1, gains(inspection, 1))
    shown = ["".join(span.text for span in chunk.spans) for chunk in found.chunks]
    ids = np.flatnonzero(inspection.chunks.document == 1)
    assert shown == inspection.chunks.texts(ids, inspection.corpus)
    scored = inspection.chunks.token_bytes[inspection.chunks.document == 1] > 0
    assert found.gain == pytest.approx(gains(inspection, 1)[scored].sum())
    assert found.num_bytes == len(TEXTS[1].encode())


def test_a_character_of_several_tokens_is_one_span(inspection: Inspection) -> None:
    texts = [s.text for c in inspection.document(1, gains(inspection, 1)).chunks for s in c.spans]
    assert "é" in texts
    assert [text for text in texts if len(text.encode()) > 1 and "\ufffd" not in text] != []


def test_neighbours_are_those_of_the_chunk_before(inspection: Inspection) -> None:
    found = inspection.document(1, gains(inspection, 1))
    assert found.chunks[0].beside == []
    for chunk in found.chunks[1:]:
        (neighbour,) = chunk.beside
        assert (neighbour.document, neighbour.index, neighbour.score) == ("first.txt", 0, 0.5)
        assert "".join(s.text for s in neighbour.spans) == "The cat sat on "
        assert "".join(s.text for s in neighbour.continuation) == TEXTS[0][15:31]


def test_marked_runs_are_shared_with_the_neighbour(inspection: Inspection) -> None:
    chunks = inspection.document(1, gains(inspection, 1)).chunks
    marked = "".join(s.text for c in chunks for s in c.spans if s.shared)
    # Document 1 is cut into "Nobody knows wh", "y\nthe cat sat on", " the mat <b>twic", ...
    assert marked == "he cat sat on" + " the mat "
    there = chunks[1].beside[0]
    assert "".join(s.text for s in there.spans if s.shared) == "he cat sat on"


def test_leaked_runs_need_the_exact_overlap(inspection: Inspection) -> None:
    assert 'class="d"' not in page(inspection)
    matching = np.zeros(gains(inspection, 1).shape, np.uint16)
    matching[0, 1] = 8
    assert "dotted" in page(inspection, matching=matching)
    found = inspection.document(1, gains(inspection, 1), matching)
    assert "".join(s.text for s in found.chunks[0].spans if s.leaked) == "Nobody k"


def test_page_is_self_contained_escaped_and_deterministic(
    inspection: Inspection, tmp_path: Path
) -> None:
    text = page(inspection)
    assert text == page(inspection)
    assert "a&lt;b&gt;&amp;.txt" in text
    assert "<b>twice" not in text
    check_page(text)
    shown = html.unescape("".join(t for row in rows_of(text) for t in row))
    assert shown.startswith("Nobody knows why\nthe cat sat on the mat <b>twice</b>; é")
    found = inspection.document(1, gains(inspection, 1))
    write_page([found], tmp_path / "p.html", title="t", description="d")
    assert [path.name for path in tmp_path.glob("p.html*")] == ["p.html"]


def rows_of(text: str) -> list[list[str]]:
    """The texts of the tokens of each chunk of a page, as HTML."""
    chunks = re.findall(r'<p class="text tokens"[^>]*>(.*?)</p>', text, re.DOTALL)
    return [re.findall(r"<span[^>]*>([^<]*)</span>", chunk) for chunk in chunks]


def test_figures_of_tokens_stand_in_one_script_in_the_order_of_the_text(
    inspection: Inspection,
) -> None:
    overlap = np.linspace(0, 1, len(gains(inspection, 1)))
    text = page(inspection, overlap=overlap)
    found = inspection.document(1, gains(inspection, 1))
    [data] = json_of(text)
    assert [len(row["gains"]) for row in data["rows"]] == [len(row) for row in rows_of(text)]
    for row, chunk in zip(data["rows"], found.chunks, strict=True):
        assert row["gains"] == [round(span.gain or 0.0, 2) for span in chunk.spans]
        assert row["gain"] == round(chunk.gain, 2)
    assert [row["overlap"] for row in data["rows"]] == pytest.approx(overlap, abs=1e-4)
    assert "title=" not in text
    assert data["experts"] == []
    assert 'name="expert"' not in text
    assert 'name="overlap-from"' in text
    assert 'name="overlap-from"' not in page(inspection), "it was not measured"


def test_a_document_without_text_has_a_page(inspection: Inspection) -> None:
    text = page(inspection, document=2)
    assert "empty.txt" in text
    assert "first chunk reads none" in text


def test_arrays_of_another_document_are_refused(inspection: Inspection) -> None:
    with pytest.raises(ValueError, match="document 1 has 5 chunks of 16 tokens"):
        inspection.document(1, np.zeros((2, M)))


def test_shades_follow_the_gain() -> None:
    assert [shade(g) for g in (0.0, 0.3, -0.39)] == ["", "", ""]
    assert [shade(g) for g in (0.9, 4.0, 99.0)] == ["p1", "p5", "p5"]
    assert [shade(g) for g in (-0.9, -4.0, -99.0)] == ["n1", "n5", "n5"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, PAD]), max_size=12),
    st.lists(st.sampled_from([0, 1, PAD]), max_size=12),
    st.integers(1, 4),
)
def test_shared_tokens_equal_their_definition(a: list[int], b: list[int], minimum: int) -> None:
    here, there = [False] * len(a), [False] * len(b)
    for i in range(len(a) - minimum + 1):
        for j in range(len(b) - minimum + 1):
            if a[i : i + minimum] == b[j : j + minimum] and PAD not in a[i : i + minimum]:
                here[i : i + minimum] = there[j : j + minimum] = [True] * minimum
    found = shared_tokens(np.array(a, int), np.array(b, int), [PAD], minimum)
    assert found[0].tolist() == here
    assert found[1].tolist() == there
