"""Contract of `eval=exact`: overlap is searched in all training text, finds at least what the
neighbours show, leaves every score as it was, and results.json names the reference."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from golden import PLANTED, Golden
from run_stages import stages_of

from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.evaluate import evaluate_run


@pytest.fixture(scope="module")
def exact(
    golden: Golden, finished: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> RunDirectory:
    """The golden run, evaluated again with the exact reference, in a copy of its directory."""
    copy = tmp_path_factory.mktemp("exact") / finished.path.name
    shutil.copytree(finished.path, copy)
    run = RunDirectory(copy)
    config = golden.config("eval.reference=exact_corpus", "eval.ngram=3")
    evaluate_run(config, run, run, DataGraph(config), {})
    return run


def test_exact_overlap_bounds_that_of_the_neighbours(
    exact: RunDirectory, finished: RunDirectory
) -> None:
    found, before = ChunkTable.load(exact.chunks_file), ChunkTable.load(finished.chunks_file)
    assert found.overlap is not None
    assert before.overlap is not None
    assert (found.overlap.longest_run >= before.overlap.longest_run).all()
    assert (found.overlap.longest_run > before.overlap.longest_run).any()
    planted = np.isin(found.document_id, PLANTED)
    assert (found.overlap.longest_run == found.tokens)[planted].all()
    for condition in found.nats:
        assert np.array_equal(found.nats[condition], before.nats[condition])


def test_results_name_the_reference(exact: RunDirectory) -> None:
    assert Results.load(exact.results_file).leakage.reference == "exact_corpus"


def test_likeness_to_the_neighbours_read_is_in_the_table(exact: RunDirectory) -> None:
    table = ChunkTable.load(exact.chunks_file)
    assert table.similarity is not None
    first, planted = table.chunk_index == 0, np.isin(table.document_id, PLANTED)
    assert (table.similarity.unigram[first] == 0).all()
    assert (table.similarity.unigram[planted & ~first] > 0.9).mean() > 0.8
    assert table.similarity.jaccard[planted & ~first].mean() > 0.2
    assert table.similarity.jaccard[~planted].mean() < 0.1


def test_the_exact_reference_needs_no_neighbours_of_its_own(golden: Golden) -> None:
    names = [stage.name for stage in stages_of(golden.config("retriever=random", "eval=exact"))]
    assert names.count("neighbours") == 2, "the run's and those of the random control"
    assert names[-1] == "exact_overlap"
