"""Contract: rivals are scored on the run's own tokens, tuned on validation alone, and resumable."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from golden import Golden

from retro_lab.app.evaluate import evaluate
from retro_lab.app.run_directory import RunDirectory
from retro_lab.baselines import table
from retro_lab.config.schema import EvaluateConfig
from retro_lab.evaluation.chunk_table import ChunkTable

GRIDS = (
    "eval=rivals",
    "debug=fast",
    "eval.rivals.subsample_documents=4",
    "eval.rivals.tuning_tokens=300",
    "eval.rivals.knn_lm.neighbours=[4,16]",
    "eval.rivals.knn_lm.temperatures=[1,10]",
    "eval.rivals.knn_lm.weights=[0.1,0.5]",
    "eval.rivals.ralm.strides=[16,8]",
    "eval.rivals.ralm.query_lengths=[8,16]",
    "eval.rivals.ralm.full_from=16",
    "eval.rivals.ngram.orders=[2,4]",
)


@pytest.fixture(scope="module")
def evaluated(golden: Golden, finished: RunDirectory) -> RunDirectory:
    evaluation = golden.config(*GRIDS).eval
    evaluate(EvaluateConfig(run=str(finished.path), eval=evaluation))
    return finished


def test_every_rival_scores_the_runs_tokens(evaluated: RunDirectory) -> None:
    chunks = ChunkTable.load(evaluated.chunks_file)
    rows = pq.read_table(evaluated.path / "rivals.parquet")
    for name in ("tokens", "bytes"):
        assert np.array_equal(rows[name].to_numpy(), getattr(chunks, name))
    record = table.load(evaluated.path)
    for row in record["rivals"]:
        figure = row["figures"]["all"]
        if figure is not None:
            assert figure["tokens"] == chunks.tokens.sum()
            assert figure["bytes"] == chunks.bytes.sum()
        assert row["figures"]["subsample"]["documents"] == 4
    names = [row["name"] for row in record["rivals"]]
    assert names == [
        "on",
        "baseline",
        "equal_parameters",
        "equal_flops",
        "knn_lm",
        "ralm_16",
        "ralm_8",
        "ngram",
        "xz",
    ]
