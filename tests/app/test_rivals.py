"""Contract: rivals are scored on the run's own tokens, tuned on validation alone, and what is there
is not worked out again."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow.parquet as pq
import pytest
from golden import Golden, evaluation_of
from local_backbone import write_backbone

from retro_lab.commands.evaluate import evaluate
from retro_lab.config.errors import ConfigError, UserError
from retro_lab.config.schema import RIVALS, EvaluateConfig, MemoryConfig
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.rivals import rivals, table
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.compressors import ngram

TUNED = {
    "knn_lm": rivals.knn_lm,
    "ralm": rivals.ralm,
    "ngram": ngram,
    "dynamic": rivals.dynamic_evaluation,
    "ttt": rivals.ttt_neighbours,
    "intermediate": rivals.intermediate,
}
NEW = ["dynamic_evaluation", "ttt_neighbours", "intermediate"]
GRIDS = (
    "eval=rivals",
    "debug=fast",
    "eval.rivals.which=[knn_lm,ralm,ngram,xz,dynamic_evaluation,ttt_neighbours,intermediate]",
    "eval.tokens=true",
    "eval.rivals.subsample_documents=4",
    "eval.rivals.tuning_tokens=100",
    "eval.rivals.knn_lm.neighbours=[4]",
    "eval.rivals.knn_lm.temperatures=[10]",
    "eval.rivals.knn_lm.weights=[0.1,0.5]",
    "eval.rivals.ralm.strides=[16]",
    "eval.rivals.ralm.full_from=32",
    "eval.rivals.ralm.query_lengths=[8]",
    "eval.rivals.ngram.orders=[2,4]",
    "eval.rivals.dynamic.rates=[0,1e-3]",
    "eval.rivals.ttt.rates=[0,1e-3]",
    "eval.rivals.ttt.neighbours=[1]",
    "eval.rivals.intermediate.weights=[0.1]",
)


@pytest.fixture(scope="module")
def tuned_on() -> dict[str, list[str]]:
    """Splits of the text that each rival's tuning was given, by call."""
    return {name: [] for name in TUNED}


@pytest.fixture(scope="module")
def evaluated(golden: Golden, run: RunDirectory, tuned_on: dict[str, list[str]]) -> RunDirectory:
    """The evaluation of the golden run with its rivals."""
    command = EvaluateConfig(run=str(run.path), eval=golden.config(*GRIDS).eval)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in TUNED.items():
            patch.setattr(module, "tune", _watched(module.tune, tuned_on[name]))
        evaluate(command)
    return evaluation_of(run, "rivals")


def _watched(tune, splits: list[str]):
    def watched(*args, **kwargs):
        splits.extend(arg.split for arg in args if isinstance(arg, rivals.Subset))
        return tune(*args, **kwargs)

    return watched


def test_every_rival_scores_the_runs_tokens(evaluated: RunDirectory) -> None:
    chunks = ChunkTable.load(evaluated.chunks_file)
    columns = pq.read_table(evaluated.path / "rivals.parquet")
    for name in ("tokens", "bytes"):
        assert np.array_equal(columns[name].to_numpy(), getattr(chunks, name))
    rows = table.load(evaluated.path)["rivals"]
    for row in rows:
        assert row["figures"]["subsample"]["documents"] == 4
        figure = row["figures"]["all"]
        if figure is not None:
            assert (figure["tokens"], figure["bytes"]) == (chunks.tokens.sum(), chunks.bytes.sum())
    names = ["on", "plain", "baseline", "knn_lm", "ralm_16", "ngram", "xz", *NEW]
    assert [row["name"] for row in rows] == names
    partial = [row["name"] for row in rows if row["figures"]["all"] is None]
    assert partial == ["ralm_16", "ttt_neighbours"]
    assert np.array_equal(columns["nats_baseline"].to_numpy(), chunks.nats["baseline"])


def test_tokens_add_up_to_chunks(evaluated: RunDirectory) -> None:
    chunks = pq.read_table(evaluated.path / "rivals.parquet")
    tokens = pq.read_table(evaluated.path / "rivals_tokens.parquet")
    own = pq.read_table(evaluated.tokens_file)
    for name in ("chunk_row", "place", "token_id", "bytes"):
        assert tokens[name].to_pylist() == own[name].to_pylist()
    row = tokens["chunk_row"].to_numpy()
    for name in ("knn_lm", "ralm_16", *NEW):
        nats = tokens[f"nats_{name}"].to_numpy(zero_copy_only=False)
        expected = chunks[f"nats_{name}"].to_numpy(zero_copy_only=False)
        sums = np.bincount(row, nats, len(expected))
        assert np.allclose(sums, expected, equal_nan=True)
        assert np.isfinite(nats).any()


def test_the_page_links_the_rivals(evaluated: RunDirectory) -> None:
    page = (evaluated.path / "index.html").read_text()
    for name in ("rivals.json", "rivals.parquet", "rivals_tokens.parquet"):
        assert f'href="{name}"' in page


def test_rivals_are_tuned_on_validation_alone(
    evaluated: RunDirectory, tuned_on: dict[str, list[str]]
) -> None:
    assert tuned_on == {
        "knn_lm": ["validation"],
        "ralm": ["validation"],
        "ngram": ["train", "validation"],
        "dynamic": ["validation"],
        "ttt": ["validation"],
        "intermediate": ["validation"],
    }
    record = table.load(evaluated.path)
    assert record["tuned_on"]["split"] == "validation"
    layers = record["rivals"][-1]["facts"]["layers"]
    tried = {row["name"]: len(row["tuning"]["trials"]) for row in record["rivals"]}
    assert tried == {
        "on": 0,
        "plain": 0,
        "baseline": 0,
        "knn_lm": 2,
        "ralm_16": 2,
        "ngram": 24,
        "xz": 0,
        "dynamic_evaluation": 2,
        "ttt_neighbours": 2,
        "intermediate": layers - 1,
    }


def test_a_second_time_nothing_is_trained_or_scored(
    golden: Golden, run: RunDirectory, evaluated: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "retro_lab")
    before = (evaluated.path / "rivals.json").read_bytes()
    evaluate(EvaluateConfig(run=str(run.path), eval=golden.config(*GRIDS).eval))
    assert (evaluated.path / "rivals.json").read_bytes() == before
    # Outcomes are stages of the store, which says what it builds.
    assert [m for m in caplog.messages if m.startswith(("building", "scoring"))] == []


def test_every_rival_that_may_be_asked_for_is_there() -> None:
    assert tuple(rivals._RIVALS) == RIVALS


def test_a_run_without_retrieval_is_compared_by_its_memory(
    golden: Golden, copy: RunDirectory
) -> None:
    """It is its own plain model; what needs a run with retrieval is refused before it is scored."""
    alone = copy.path.parent / golden.plain().path.name
    suffix = MemoryConfig(name="suffix", experts=["suffix"], gate_tokens=2_000)
    with pytest.raises(UserError, match="made of a run that has: ttt_neighbours"):
        evaluate(EvaluateConfig(run=str(alone), eval=golden.config(*GRIDS).eval))
    assert not (alone / "evaluations").exists()
    asked = golden.config(*GRIDS, "eval.tokens=false", "eval.rivals.which=[knn_lm,ralm,xz]").eval
    evaluate(EvaluateConfig(run=str(alone), eval=asked, memory=suffix))
    out = evaluation_of(RunDirectory(alone), "rivals-memory_suffix")
    record, chunks = table.load(out.path), ChunkTable.load(out.chunks_file)
    rows = {row["name"]: row for row in record["rivals"]}
    assert list(rows) == ["baseline", "memory", "knn_lm", "ralm_16", "xz"]
    bits = {name: row["figures"]["subsample"]["bits_per_byte"] for name, row in rows.items()}
    for name, row in rows.items():
        found = row["figures"]["subsample"]
        if name != "memory":
            assert found["difference"] == pytest.approx(bits[name] - bits["memory"])
        if name != "baseline":
            less = found["against_plain"]["difference"]
            assert less == pytest.approx(bits[name] - bits["baseline"])
    assert rows["memory"]["figures"]["all"]["nats"] == pytest.approx(chunks.nats["memory"].sum())
    assert rows["memory"]["datastore_bytes"] > rows["baseline"]["datastore_bytes"] == 0
    first, second = table.rivals_tables(record)
    assert "less with memory" in first.head
    assert "less baseline, all text" in second.head


def test_beside_a_backbone_stand_the_rivals_of_any_model(
    golden: Golden, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The others are refused, by name, before anything is read."""
    folder = write_backbone(tmp_path_factory.mktemp("models") / "Rival-Llama")
    given = (
        *(f"recipe.backbone={folder}", "tokenizer.vocab_size=4096", "cca.layers=[2]"),
        *("neighbours=k1", "schedule.batch_size=2", "eval.random=false", "plain=none"),
    )
    with pytest.raises(ConfigError, match="a model that this project trains: knn_lm, intermediate"):
        golden.config(*given, *GRIDS)
    asked = "eval.rivals.which=[ralm,ngram,xz,dynamic_evaluation,ttt_neighbours]"
    grafted = golden.run(*given)
    few = (asked, "eval.tokens=false", "eval.rivals.subsample_documents=2")
    evaluate(EvaluateConfig(run=str(grafted.path), eval=golden.config(*given, *GRIDS, *few).eval))
    out = evaluation_of(grafted, "rivals")
    rows = {row["name"]: row for row in table.load(out.path)["rivals"]}
    names = ["on", "baseline", "ralm_16", "ngram", "xz", "dynamic_evaluation", "ttt_neighbours"]
    assert list(rows) == names
    assert rows["on"]["parameters"] > rows["baseline"]["parameters"]
    assert rows["dynamic_evaluation"]["parameters"] == rows["baseline"]["parameters"]
    chunks = pq.read_table(out.path / "rivals.parquet")
    if rows["dynamic_evaluation"]["tuning"]["chosen"]["rate"] == 0:
        pair = (chunks[f"nats_{name}"].to_numpy() for name in ("dynamic_evaluation", "baseline"))
        assert np.allclose(*pair, rtol=1e-5)
    assert not (out.path / "rivals_tokens.parquet").exists()


@pytest.mark.slow
def test_the_equal_baseline_and_the_second_plain_model_are_runs_of_their_own(
    golden: Golden, run: RunDirectory, evaluated: RunDirectory
) -> None:
    overrides = (
        *GRIDS,
        "eval.rivals.which=[equal_parameters,ensemble]",
        "eval.rivals.matched.lr_factors=[0.01,1.0]",
    )
    evaluate(EvaluateConfig(run=str(run.path), eval=golden.config(*overrides).eval))
    rows = {row["name"]: row for row in table.load(evaluated.path)["rivals"]}
    facts, tuning = rows["equal_parameters"]["facts"], rows["equal_parameters"]["tuning"]
    equal = RunDirectory(run.path.parent / facts["run"])
    config, own = equal.config(), run.config()
    assert equal.reached("trained")
    assert [tried["lr_factor"] for tried in tuning["trials"]] == [0.01, 1.0]
    assert config.optim.lr == own.optim.lr * tuning["chosen"]["lr_factor"]
    assert tuning["chosen"]["lr_factor"] == 1.0  # a hundredth of the rate learns next to nothing
    assert config.model.num_layers == facts["match"]["num_layers"]
    assert config.schedule.steps == own.schedule.steps + own.recipe.steps
    assert rows["equal_parameters"]["parameters"] == pytest.approx(
        rows["on"]["parameters"], abs=facts["match"]["unit"] / 2
    )
    two = rows["ensemble"]
    first, second = (RunDirectory(run.path.parent / name) for name in two["facts"]["runs"])
    assert first.path.name == golden.plain().path.name
    assert second.config().seed == own.seed + 1
    assert second.config().schedule == first.config().schedule
    assert two["parameters"] == 2 * rows["plain"]["parameters"]
    assert two["figures"]["all"]["nats"] <= rows["plain"]["figures"]["all"]["nats"]
