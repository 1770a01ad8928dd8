"""Contract of the gain pages with a memory: tokens.parquet says how much of a token's probability
the memory gave, and by which expert; the page shows the documents of the database that the tokens
of a chunk lean on, and beside neighbours only the notes of the tokens change.
"""

from __future__ import annotations

import dataclasses
import html
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from golden import PLANTED, Golden, results_of
from page_checks import json_of

from retro_lab.config.schema import EvaluateConfig, MemoryConfig
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.memory import MemoryScoring
from retro_lab.run.finished import FinishedRun

MEMORY = MemoryConfig(name="suffix_topic", experts=["suffix", "topic"], gate_tokens=2_000)


def evaluated(run: RunDirectory, memory: MemoryConfig = MEMORY, **more: object) -> RunDirectory:
    """Where an evaluation with a memory is; fields of `eval` are `more`."""
    settings = {"bootstrap_samples": 50, "random": False, "pages": 1} | more
    asked = dataclasses.replace(run.config().eval, **settings)  # type: ignore[arg-type]
    return results_of(EvaluateConfig(run=str(run.path), memory=memory, eval=asked))


def figures_of(page: str) -> tuple[list[int], list[str]]:
    """Percent that the memory gave to each token of a page, and the experts that it names."""
    [data] = json_of(page)
    return [share for row in data["rows"] for share in row.get("shares", [])], data["experts"]


def page_of(out: RunDirectory) -> str:
    return (out.path / "inspect.html").read_text()


@pytest.fixture(scope="module")
def baseline(
    golden: Golden, finished: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> RunDirectory:
    """A run without retrieval."""
    copy = golden.copy_runs(tmp_path_factory.mktemp("alone") / "runs")
    return RunDirectory(copy.path.parent / golden.baseline().path.name)


@pytest.fixture(scope="module")
def alone(baseline: RunDirectory) -> RunDirectory:
    """The evaluation of a run without retrieval, with a memory and the page."""
    return evaluated(baseline)


def test_the_columns_say_who_paid_for_a_token(alone: RunDirectory) -> None:
    tokens = TokenTable.load(alone.tokens_file)
    assert tokens.memory is not None
    share, names = tokens.memory.share, pq.read_table(alone.tokens_file)["memory_expert"]
    named = np.array([bool(name) for name in names.to_pylist()])
    assert (named == (share >= 0.5)).all()
    assert 0.01 < named.mean() < 0.99
    assert share.min() >= 0
    assert share.max() <= 1
    # p >= w0 p_model, so what the memory gave is at least what the mixture gained, and w0 <= 1.
    gained = tokens.nats["baseline"] - tokens.nats["memory"]
    assert (share >= 1 - np.exp(-gained) - 1e-6).all()
    table = ChunkTable.load(alone.chunks_file)
    planted = np.isin(table.document_id, PLANTED)[tokens.chunk_row]
    assert share[planted].mean() > share[~planted].mean() + 0.1  # copied text is remembered
    given = {name.partition(":")[0] for name in names.to_pylist() if name}
    assert given == {"suffix", "topic"}


def test_the_page_shows_what_the_tokens_lean_on(
    alone: RunDirectory, baseline: RunDirectory
) -> None:
    page = page_of(alone)
    assert any(f'<h2 id="d0">{name}</h2>' in page for name in PLANTED)
    assert "that baseline needs for it, less those of with memory" in page
    shares, experts = figures_of(page)
    assert len(shares) > 100
    assert 0 <= min(shares) < max(shares) <= 100
    assert {name.partition(":")[0] for name in experts} == {"suffix", "topic"}
    assert "<option>suffix</option>" in page
    assert "neighbour" not in re.sub('<style>.*</style>|class="neighbour"', "", page, flags=re.S)
    assert not (alone.path / "gain.json").exists()
    graph = FinishedRun.open(baseline).graph
    entries = re.findall(
        r"\d\. <b>([^<]+)</b>, (\d+) tokens? \(memory (\d+) %\), longest match (\d+)"
        r'(?: or more)? tokens</div>\s*<p class="text">(.*?)</p>',
        page,
        re.DOTALL,
    )
    training = {graph.corpus.ids[d] for d in graph.corpus.documents_of("train")}
    assert len(entries) > 5
    assert {name for name, *_ in entries} <= training
    for name, number, share, match, text in entries:
        assert 1 <= int(number) <= 16
        assert int(share) <= 100
        assert int(match) >= 4
        raw = graph.corpus.text(graph.corpus.ids.index(name))
        assert html.unescape(re.sub("<[^>]+>", "", text)) in raw
        [marked] = re.findall(r'<span class="m">(.*?)</span>', text, re.DOTALL)
        assert html.unescape(marked) in raw


def test_a_planted_copy_leans_on_its_original(alone: RunDirectory) -> None:
    first = page_of(alone).split("<h2 ")[1]
    rows = first.split('<div class="row">')[1:]
    leading = [re.search(r"1\. <b>([^<]+)</b>", row) for row in rows]
    names = [found[1] for found in leading if found]
    assert names, "a copy has documents beside it"
    assert max(names.count(name) for name in names) > len(rows) / 2
    match = [int(n) for n in re.findall(r"longest match (\d+)", first)]
    assert max(match) == 32


def test_stored_scores_have_the_columns_or_are_scored_anew(
    alone: RunDirectory, baseline: RunDirectory
) -> None:
    before = alone.tokens_file.read_bytes()
    page = page_of(alone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryScoring, "scores", None)  # whoever calls it fails
        evaluated(baseline)
    assert alone.tokens_file.read_bytes() == before
    assert page_of(alone) == page
    table = ChunkTable.load(alone.chunks_file)
    old = dataclasses.replace(TokenTable.load(alone.tokens_file), memory=None)
    old.save(alone.tokens_file, table)  # as an older version wrote it
    evaluated(baseline, tokens=True)
    assert TokenTable.load(alone.tokens_file).memory is not None
    assert alone.tokens_file.read_bytes() == before


def test_beside_neighbours_only_the_notes_change(copy: RunDirectory) -> None:
    without = evaluated(copy, MemoryConfig())
    before = page_of(without)
    assert TokenTable.load(without.tokens_file).memory is None
    assert figures_of(before) == ([], [])
    out = evaluated(copy)
    tokens = TokenTable.load(out.tokens_file)
    assert tokens.memory is not None
    plain = tokens.nats["plain"] - tokens.nats["plain_memory"]
    assert (tokens.memory.share >= 1 - np.exp(-plain) - 1e-6).all(), "the verdict is on plain"
    assert page_of(without) == before
    after = page_of(out)
    assert len(figures_of(after)[0]) > 100
    assert "(plain with memory)" in after
    figures = (
        r'<script type="application/json".*?</script>|<label>Expert.*?</label>\n'
        r'|<option value="expert">.*?</option>\n'
    )
    before, plainer = (re.sub(figures, "", page, flags=re.DOTALL) for page in (before, after))
    assert re.sub(r" Choosing a token .*?tokens\.", "", plainer) == before


def test_without_contexts_a_page_shows_the_text_alone(copy: RunDirectory, golden: Golden) -> None:
    run = RunDirectory(copy.path.parent / golden.baseline().path.name)
    cache = MemoryConfig(name="none", cache=True)
    out = evaluated(run, cache)
    tokens = TokenTable.load(out.tokens_file)
    assert tokens.memory is not None
    assert {name.partition(":")[0] for name in tokens.memory.names} == {"cache"}
    page = page_of(out)
    assert not re.search(r"longest match \d", page)
    assert "this memory reads no contexts" in page
    assert {name.partition(":")[0] for name in figures_of(page)[1]} == {"cache"}
    evaluated(run, cache, pages=0, stride=16)
    assert not (out.path / "inspect.html").exists()
