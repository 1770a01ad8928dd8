"""Contract: one configuration becomes a finished run whose leakage filter finds what was planted.

The corpus holds two test documents that are copies of training documents and ten that are not.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from golden import PLANTED, Golden, evaluation_of
from page_checks import check_page

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import baseline_of
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results, recompute
from retro_lab.evaluation.report.verdict import verdict
from retro_lab.run.directory import RunDirectory
from retro_lab.training.loggers import read_metrics


@pytest.fixture
def results(finished: RunDirectory) -> Results:
    return Results.load(finished.results_file)


@pytest.fixture
def table(finished: RunDirectory) -> ChunkTable:
    return ChunkTable.load(finished.chunks_file)


def test_the_result_says_how_full_the_neighbour_table_is(results: Results) -> None:
    assert set(results.data.coverage or {}) == {"train", "validation", "test"}
    assert all(0.5 < share <= 1 for share in (results.data.coverage or {}).values())
    assert results.data.recall_at_10 is None  # BM25 is exact


def test_the_filter_finds_exactly_the_planted_documents(table: ChunkTable) -> None:
    assert table.overlap is not None
    planted = np.isin(table.document_id, PLANTED)
    whole = table.overlap.longest_run == table.tokens
    assert whole[planted].all()
    chance = ~planted & ~table.overlap.partial  # a last chunk may have one token, found anywhere
    assert not (table.overlap.longest_run[chance] * 2 > table.tokens[chance]).any()
    assert planted.sum() > 10
    assert (~planted).sum() > 50


def test_results_follow_from_the_chunk_table_alone(
    finished: RunDirectory, results: Results
) -> None:
    assert recompute(finished.chunks_file, results.leakage) == results.leakage


def test_unfiltered_is_bpb_of_one_bit_for_bit(results: Results) -> None:
    for condition, score in results.metrics["test"].items():
        assert results.leakage.curves[condition][-1].bpb == score.bpb


def test_every_byte_of_the_split_is_scored_once(golden: Golden, results: Results) -> None:
    ids = (golden.corpus / "test.txt").read_text().split()
    lines = (golden.corpus / "corpus.jsonl").read_bytes().splitlines()
    records = [orjson.loads(line) for line in lines]
    expected = sum(len(record["text"].encode()) for record in records if record["id"] in ids)
    assert {score.bytes for score in results.metrics["test"].values()} == {expected}


def test_off_is_the_baseline_exactly(table: ChunkTable) -> None:
    """A frozen retrofit without its neighbours is its backbone."""
    assert np.array_equal(table.nats["off"], table.nats["baseline"])
    assert not np.array_equal(table.nats["on"], table.nats["baseline"])
    assert not np.array_equal(table.nats["on"], table.nats["random"])


def test_the_plain_model_has_read_as_many_tokens(
    golden: Golden, finished: RunDirectory, results: Results
) -> None:
    """RETRO's are those of the baseline that it is grafted on and those of its own phase."""
    config, plain = golden.config(), results.plain
    assert plain is not None
    a_step = config.schedule.batch_size * config.chunking.sequence_length
    both_phases = config.schedule.steps + config.recipe.steps
    assert (plain.steps, plain.training_tokens) == (both_phases, both_phases * a_step)
    [last] = [r for r in read_metrics(golden.plain().path / "metrics.jsonl") if "val/bpb" in r][-1:]
    assert last["step"] == both_phases
    trained = golden.plain().weights(), golden.baseline().weights()
    assert any(not torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_the_gain_is_measured_against_the_plain_model(results: Results) -> None:
    found = results.leakage.difference("on", "plain", 1.0)
    assert found is not None
    scores = results.metrics["test"]
    assert found.delta_bpb == pytest.approx(scores["on"].bpb - scores["plain"].bpb, abs=1e-12)
    assert verdict(results.leakage).findings[0].difference == found


def test_compressors_are_beside_the_figures(results: Results) -> None:
    assert set(results.compressors or {}) == {"xz", "ngram"}
    assert all(0 < bpb < 8 for bpb in (results.compressors or {}).values())


def test_first_chunks_read_nothing_and_score_alike(table: ChunkTable) -> None:
    first = table.chunk_index == 0
    assert (table.neighbours[first] == -1).all()
    assert (table.neighbours[~first] != -1).all()
    # The first chunk's last position predicts a token of the second, so only whole chunks count.
    assert np.array_equal(table.nats["on"][first], table.nats["off"][first])


def test_the_table_names_what_was_read_and_measures_what_is_alike(
    golden: Golden, finished: RunDirectory, table: ChunkTable
) -> None:
    """A chunk is predicted with the neighbours of the chunk before it; r(C) is its own with its own
    ten neighbours, each with the chunk that follows it.
    """
    from retro_lab.run.data.graph import DataGraph

    prepared = DataGraph(golden.config())
    assert prepared.table is not None
    assert table.overlap is not None
    chunks, ids = prepared.chunks, np.asarray(prepared.table.ids)
    first = {name: chunks.first_chunk[d] for d, name in enumerate(prepared.corpus.ids)}

    def text(chunk: int) -> list[int]:
        tokens = chunks.tokens[chunk].tolist()
        return [t for t in tokens if t not in (chunks.pad_id, chunks.boundary_id)]

    def runs(tokens: list[int], length: int) -> set[tuple[int, ...]]:
        return {tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)}

    beyond = 0
    for row, (document, index) in enumerate(zip(table.document_id, table.chunk_index, strict=True)):
        chunk = int(first[document] + index)
        read = ids[chunk - 1][: table.neighbours.shape[1]] if index else []
        assert [n for n in table.neighbours[row] if n >= 0] == [n for n in read if n >= 0]
        own, longest, alone = text(chunk), 0, 0
        for neighbour in (int(n) for n in ids[chunk][:10] if n >= 0):
            follows = neighbour + 1 < chunks.first_chunk[chunks.document[neighbour] + 1]
            both = text(neighbour) + (text(neighbour + 1) if follows else [])
            while runs(own, longest + 1) & runs(both, longest + 1):
                longest += 1
            while runs(own, alone + 1) & runs(text(neighbour), alone + 1):
                alone += 1
        assert table.overlap.longest_run[row] == longest, (document, index)
        beyond += longest > alone
    assert beyond, "no run reaches into what follows a neighbour, so it could be left out"


def test_no_neighbour_is_of_the_chunks_own_document(golden: Golden, finished: RunDirectory) -> None:
    from retro_lab.run.data.graph import DataGraph

    prepared = DataGraph(golden.config())
    assert prepared.table is not None
    chunks, ids = prepared.chunks, np.asarray(prepared.table.ids)
    own = chunks.document[np.arange(chunks.num_chunks)][:, None]
    assert not ((chunks.document[ids] == own) & (ids >= 0)).any()
    train = chunks.chunks_of("train")
    assert np.isin(ids[ids >= 0], train).all()


def test_a_finished_run_is_left_alone(golden: Golden, finished: RunDirectory) -> None:
    def stamps(folder: Path) -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}

    before = stamps(golden.folder)
    assert golden.run() == finished
    assert stamps(golden.folder) == before


def test_the_baseline_is_shared_and_data_is_built_once(
    golden: Golden, finished: RunDirectory
) -> None:
    stages = {p for p in (golden.folder / "store").glob("*/*") if p.is_dir()}
    trained = golden.baseline().weights()
    other = golden.run("neighbours=k1")
    assert other != finished
    assert RunDirectory.of(baseline_of(golden.config("neighbours=k1"))) == golden.baseline()
    assert all(torch.equal(trained[n], w) for n, w in golden.baseline().weights().items())
    assert {p for p in (golden.folder / "store").glob("*/*") if p.is_dir()} == stages


def test_evaluating_twice_gives_the_same_bytes(
    golden: Golden, copy: RunDirectory, shared: Path
) -> None:
    from retro_lab.run.data.graph import DataGraph
    from retro_lab.run.evaluating.evaluate import evaluate_run

    config = golden.config()
    chunks, figures = copy.chunks_file.read_bytes(), copy.results_file.read_bytes()
    copy.forget_evaluation()  # or the stored scores would be read
    compared = {"baseline": golden.baseline(), "plain": golden.plain()}
    evaluate_run(config, copy, copy, DataGraph(config), compared)
    assert copy.chunks_file.read_bytes() == chunks
    again = copy.results_file.read_bytes()
    # The configuration names the folders, and the run was first evaluated in the shared one.
    figures = figures.replace(str(shared / "trained").encode(), str(golden.folder).encode())
    assert orjson.loads(again) == orjson.loads(figures)  # names what differs
    assert again == figures


def test_a_changed_corpus_is_refused(golden: Golden, tmp_path: Path) -> None:
    text = (golden.corpus / "corpus.jsonl").read_text()
    copy = tmp_path / "corpus.jsonl"
    copy.write_text(text)
    overrides = (f"corpus.path={copy}", f"runs_dir={tmp_path}", "retriever=none")
    run = golden.run(*overrides)
    copy.write_text(text.replace("test-00", "test-00", 1).replace(" ", "  ", 1))
    (run.path / "evaluation.json").unlink()
    with pytest.raises(UserError, match="is not what it was made from"):
        golden.run(*overrides)


def test_a_baseline_of_other_text_is_not_grafted_on(golden: Golden, tmp_path: Path) -> None:
    text = (golden.corpus / "corpus.jsonl").read_text()
    copy = tmp_path / "corpus.jsonl"
    copy.write_text(text)
    overrides = (f"corpus.path={copy}", f"runs_dir={tmp_path}")
    golden.run(*overrides, "retriever=none")
    copy.write_text(text.replace(" ", "  ", 1))
    with pytest.raises(UserError, match=r"none-s1-\w+ is not what it was made from"):
        golden.run(*overrides)
    assert not list(tmp_path.glob("*-bm25-*/checkpoints")), "it was refused after training"


def test_results_say_what_was_measured(results: Results) -> None:
    assert results.leakage.reference == "own_neighbours (bm25)"
    assert set(results.metrics["test"]) == {"on", "off", "random", "baseline", "plain"}
    assert {"corpus", "tokenizer", "chunks", "index", "neighbours"} <= set(results.lineage)
    assert all(math.isfinite(score.bpb) for score in results.metrics["test"].values())
    assert all(d.documents == 12 for d in results.leakage.differences if d.alpha == 1.0)


def test_a_stored_run_is_evaluated_by_its_directory_alone(
    golden: Golden, copy: RunDirectory
) -> None:
    from retro_lab.commands.evaluate import evaluate
    from retro_lab.config.schema import EvalConfig, EvaluateConfig

    before = Results.load(copy.results_file)
    command = EvaluateConfig(run=str(copy.path), eval=EvalConfig(alphas=[0.5, 1.0]))
    command.eval.bootstrap_samples = 20
    evaluate(command)
    after = Results.load(copy.results_file)
    assert after.metrics == before.metrics
    assert after.leakage.alphas == [0.5, 1.0]
    evaluate(EvaluateConfig(run=str(copy.path), eval=golden.config().eval))
    again = Results.load(copy.results_file)
    assert replace(again, config=before.config) == before  # which names the run's first folder


def test_leaky_neighbours_are_replaced_before_they_are_read(
    golden: Golden, finished: RunDirectory
) -> None:
    """`neighbours.max_run` takes planted copies from the model; r(C) still sees them."""
    table = ChunkTable.load(golden.run("neighbours.max_run=8").chunks_file)
    unfiltered = ChunkTable.load(finished.chunks_file)
    planted = np.isin(table.document_id, PLANTED) & (table.chunk_index > 0)
    assert table.overlap is not None
    assert (table.overlap.longest_run[planted] == table.tokens[planted]).all()
    same = (table.neighbours[planted, 0] == unfiltered.neighbours[planted, 0]).mean()
    assert same < 0.2
    assert table.nats["on"][planted].sum() > unfiltered.nats["on"][planted].sum()


def test_the_page_shows_where_the_gain_comes_from(
    golden: Golden, copy: RunDirectory, pictures: None
) -> None:
    from retro_lab.commands.evaluate import evaluate
    from retro_lab.config.schema import EvaluateConfig
    from retro_lab.evaluation.records.examples_file import Examples

    evaluation = golden.config("eval=inspect", "eval.pages=1", "debug=fast").eval
    evaluate(EvaluateConfig(run=str(copy.path), eval=evaluation))
    out = evaluation_of(copy, "inspect").path
    page = (out / "inspect.html").read_text()
    assert any(name in page for name in PLANTED), "a copied document gains most"
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)
    check_page(page)
    check_page((out / "index.html").read_text())
    examples = Examples.load(out).examples
    assert [example.which for example in examples] == ["greatest gain", "middle", "smallest gain"]
    assert examples[0].document in PLANTED, "a copied document gains most"
    read = examples[0].neighbours
    assert any(piece.shared for n in read for piece in [*n.text, *n.continuation])
    assert not (golden.baseline().path / "examples.json").exists(), "it reads no neighbours"
    assert (out / "gain.png").stat().st_size > 10_000
