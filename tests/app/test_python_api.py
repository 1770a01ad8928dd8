"""Contract of `import retro_lab as rl`: strings become a searched database, a finished run gives
its figures and scores new text as a document is scored, and mistakes are one `UserError`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from golden import Golden

import retro_lab as rl
from retro_lab.config.compose import load_config
from retro_lab.config.schema import DenseNeuralRetrieverConfig
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.retrieval.search.dense_neural_rerank import DenseNeuralReranker, Scorer
from retro_lab.retrieval.search.registry import BACKENDS
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory

TEXTS = [
    "the cat sits on the mat and looks at the fish",
    "dogs dig deep holes in the garden every day",
    "birds sing early in the morning before the sun is up",
]
READ = {"value": "both", "chunk_size": 64, "neighbour_length": 128}


@pytest.fixture
def run(run: RunDirectory) -> rl.Run:
    return rl.load(run.path)


def test_every_name_is_there_and_the_package_imports_nothing_heavy() -> None:
    assert set(dir(rl)) == {*rl.__all__, "__version__"}
    assert all(getattr(rl, name) is not None for name in rl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Databse'"):
        rl.Databse  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
    code = "import sys, retro_lab; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (Path(rl.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("retriever", ["bm25", "tfidf"])
def test_strings_are_searched(tmp_path: Path, retriever: str) -> None:
    options = (f"store.dir={tmp_path}", f"retriever={retriever}", "chunking=m16")
    database = rl.Database.from_texts(TEXTS, *options, ids=["cat", "dog", "bird"])
    assert len(database) >= 3
    [best, *_] = database.search("who digs holes in the garden?", k=2)
    assert best.document_id == "dog"
    assert "dig deep holes" in best.text
    found = database.search(["the cat", "sing in the morning"], k=1)
    assert [hits[0].document_id for hits in found] == ["cat", "bird"]


class SharedWords(DenseNeuralReranker):
    """No model is downloaded: a pair's score is the number of words that its texts share."""

    @property
    def scorer(self) -> Scorer:
        return lambda pairs: np.array([len(set(a.split()) & set(b.split())) for a, b in pairs])


def test_new_text_is_compared_by_a_ranker_of_raw_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, DenseNeuralRetrieverConfig, f"{__name__}:SharedWords")
    options = ("retriever=dense_neural_rerank", "embedder=hashing")
    database = rl.Database.from_texts(TEXTS, f"store.dir={tmp_path}", *options)
    asked = "cat and sing: who digs holes in the garden?"

    def shared(text: str) -> int:
        return len(set(asked.split()) & set(text.split()))

    hits = database.search(asked, k=3)
    assert [hit.score for hit in hits] == [shared(hit.text) for hit in hits] != [0, 0, 0]

    config = load_config([f"store.dir={tmp_path}", *database.corpus, *options])
    graph, model = DataGraph(config, whole=True), SimpleNamespace(**READ)
    [encoded] = graph.tokenizer.data.encode_batch([asked])
    [found] = graph.search(config.retriever, cast(Any, model), 3).search([encoded.ids.tolist()])[1]
    assert [(one.document, one.score) for one in found] == [
        (hit.document_id, hit.score) for hit in hits
    ]


def test_the_same_strings_are_kept_once(tmp_path: Path) -> None:
    first, again, other = (
        rl.Database.from_texts(texts, f"store.dir={tmp_path}")
        for texts in (TEXTS, TEXTS, TEXTS[:2])
    )
    assert first.corpus == again.corpus != other.corpus
    assert len(list((tmp_path / "texts").iterdir())) == 2


def test_bad_texts_are_one_message(tmp_path: Path) -> None:
    for texts, ids in (([], None), (TEXTS, ["a", "b"]), (TEXTS, ["a", "b", "b"])):
        with pytest.raises(rl.UserError, match="distinct ids"):
            rl.Database.from_texts(texts, f"store.dir={tmp_path}", ids=ids)
    with pytest.raises(rl.UserError, match="retriever=bm52"):
        rl.Database.from_texts(TEXTS, f"store.dir={tmp_path}", "retriever=bm52")
    with pytest.raises(rl.UserError, match="retriever=none"):
        rl.Database.from_texts(TEXTS, f"store.dir={tmp_path}", "retriever=none")


def test_train_opens_what_is_finished(golden: Golden, run: rl.Run) -> None:
    found = rl.train(*golden.overrides)
    assert found.path == RunDirectory.of(golden.config()).path
    assert found.results.run_key == run.results.run_key
    assert found.config.model.name == "nano"


def test_a_run_has_its_figures(run: rl.Run) -> None:
    table = ChunkTable.load(run.path / "chunks.parquet")
    assert run.chunks.num_rows == len(table)
    assert run.chunks["nats_on"].to_numpy().sum() == pytest.approx(
        run.results.metrics["test"]["on"].nats
    )
    assert any("plain model" in sentence for sentence in run.verdict)


@pytest.mark.parametrize("condition", ["off", "plain"])
def test_a_text_is_scored_as_its_document_was(run: rl.Run, condition: str) -> None:
    """Without retrieval nothing depends on the document's place, so the sums are equal."""
    table, corpus = ChunkTable.load(run.path / "chunks.parquet"), run._opened.graph.corpus
    document = str(table.document_id[0])
    text = corpus.text(list(corpus.ids).index(document))
    rows = table.document_id == document
    score = run.score(text, condition)
    assert score.nats == pytest.approx(table.nats[condition][rows].sum(), rel=1e-5)
    assert score.tokens == table.tokens[rows].sum()
    assert score.bytes == table.bytes[rows].sum() == len(text.encode())


def test_retrieval_is_the_default_of_a_score(run: rl.Run) -> None:
    text = " ".join(TEXTS * 8)
    assert run.score(text) == run.score(text, "on") != run.score(text, "off")
    with pytest.raises(rl.UserError, match="no condition 'onn'"):
        run.score(text, "onn")


def test_generation_is_repeatable_and_says_what_was_read(run: rl.Run) -> None:
    settings = {"tokens": 24, "temperature": 0.5, "seed": 3}
    prompt = " ".join(TEXTS)
    first, again = (run.generate(prompt, **settings) for _ in range(2))
    assert str(first) == again.text
    assert first.readings
    assert first.readings[0].found
    assert run.generate(prompt, retrieval=False, **settings).readings == []


def test_another_evaluation_gives_its_own_figures(run: rl.Run) -> None:
    before = run.results.metrics["test"]
    other = run.evaluate("eval=ppl", "eval.split=validation")
    assert set(other.metrics) == {"validation"}
    assert run.results.metrics["test"] == before
    with pytest.raises(rl.UserError, match="measures other text"):
        run.evaluate("eval=qa", "eval.questions=q.jsonl")


def test_mistakes_are_user_errors(run: rl.Run, tmp_path: Path) -> None:
    with pytest.raises(rl.UserError, match="did you mean model=tiny"):
        rl.train("model=tinny")
    with pytest.raises(rl.UserError, match="debug is not a setting of this command"):
        run.evaluate("debug=fast")
    with pytest.raises(rl.UserError, match="not a run directory"):
        rl.load(tmp_path)


def test_a_search_of_the_run_is_that_of_its_database(run: rl.Run) -> None:
    hits = run.search("the first words of a query", k=3)
    assert 0 < len(hits) <= 3
    assert np.all(np.diff([hit.score for hit in hits]) <= 0)
    batch = run.search(["the first words of a query"], k=3)
    assert batch == [hits]
