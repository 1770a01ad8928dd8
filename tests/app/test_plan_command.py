"""Contract: what `plan` predicts of a corpus is what its store holds afterwards; the command reads
its own keys beside the configuration's, and answers mistakes with a way out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden import Golden

from retro_lab.commands.plan import main, parse
from retro_lab.config.errors import UserError
from retro_lab.config.schema import MemoryConfig
from retro_lab.planner.plan import Database, planned_chunks, planned_files
from retro_lab.planner.plan_memory import memory_building, memory_files
from retro_lab.planner.plan_tables import in_bytes, in_time
from retro_lab.run.data.graph import DataGraph, DataGroups
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.memory import MemoryScoring
from retro_lab.run.model import build_data, load_model

TOKENS = "database.tokens=1e6"
EXACT = ("corpus", "chunks", "embeddings", "neighbours")


def prepared(golden: Golden, retriever: str) -> tuple[DataGraph, dict[str, Path]]:
    config = golden.config(f"retriever={retriever}", "embedder=hashing")
    graph = DataGraph(config)
    nodes = [graph.own.corpus, graph.own.chunks, graph.index(config.retriever)]
    nodes.append(graph.own_neighbours)
    if config.retriever.needs_embeddings:
        nodes.append(graph.own.embeddings)
    return graph, {node.artifact.stage: node.artifact.path for node in nodes}


def database(graph: DataGraph, config: DataGroups) -> Database:
    """The facts of a real store."""
    corpus, chunks = graph.own.corpus.data, graph.own.chunks.data
    ids = chunks.searched
    distinct = np.mean([len(np.unique(chunks.tokens[i])) for i in ids]) / chunks.chunk_size
    return Database(
        chunks=chunks.num_chunks,
        database=len(ids),
        documents=corpus.num_documents,
        text_bytes=corpus.num_bytes(),
        chunk_size=config.chunking.chunk_size,
        vocab_size=chunks.vocab_size,
        distinct=float(distinct),
    )


@pytest.mark.parametrize("retriever", ["faiss_flat", "faiss_ivfpq", "bm25", "hybrid", "oracle"])
def test_prediction_is_what_lies_in_the_store(golden: Golden, retriever: str) -> None:
    graph, folders = prepared(golden, retriever)
    config = graph.groups
    planned = database(graph, config)
    files = planned_files(planned, config.retriever, 256, config.neighbours.k_store)
    for file in files:
        real = (folders[file.stage] / file.name).stat().st_size
        if file.stage in EXACT and file.name != "vectors.npy":  # equal texts share a vector
            assert file.bytes == real, file
        else:
            assert file.bytes == pytest.approx(real, rel=0.1, abs=512), file
    known = {(file.stage, file.name) for file in files}
    for stage, folder in folders.items():
        for path in folder.rglob("*"):
            small = path.suffix == ".json" or path.name == "shape.npy"
            name = path.relative_to(folder).as_posix()
            assert path.is_dir() or small or (stage, name) in known


def test_a_memory_s_files_are_foretold(golden: Golden, finished: RunDirectory) -> None:
    config = golden.config("memory=full")
    graph = DataGraph(config)
    planned = database(graph, graph.groups)
    model = load_model(golden.plain().config(), golden.plain(), graph)
    nodes = MemoryScoring(config, graph, build_data(config, graph), "plain", model).nodes
    folders = {node.artifact.stage: node.artifact.path for node in nodes}
    files = memory_files(planned, config.memory, config.model.d_model)
    for file in files:  # how many tokens a document has is known by a law of experience only
        real = (folders[file.stage] / file.name).stat().st_size
        close = (
            0.6 if file.stage == "topics" and file.name in ("document.npy", "weight.npy") else 0.15
        )
        assert file.bytes == pytest.approx(real, rel=close, abs=512), file
    held = memory_building(planned, config.memory, config.model.d_model)
    assert {file.stage for file in files} == set(held)
    assert set(folders) == {*held, "match_heads"}
    assert memory_files(planned, MemoryConfig(), config.model.d_model) == []


def test_a_memory_of_more_segments_takes_longer_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["retriever=none", "memory=suffix_topic"]
    assert main(["database.tokens=1e7", "database.document_tokens=500", *given]) == 0
    small = " ".join(capsys.readouterr().out.split())
    assert "sorting contexts │ 8.0 s" in small  # 40 MB at 5 MB/s
    assert "reading a token │ 0.075 ms" in small
    assert "give database.document_tokens" not in small
    assert main(["database.tokens=1e9", *given]) == 0
    large = " ".join(capsys.readouterr().out.split())
    assert "reading a token │ 0.21 ms" in large  # 60 segments
    assert "Topics grow with the documents: give database.document_tokens" in large


def test_chunks_follow_from_tokens_and_documents(golden: Golden) -> None:
    graph, _ = prepared(golden, "bm25")
    chunks = graph.own.chunks.data
    special = (chunks.tokens == chunks.pad_id) | (chunks.tokens == chunks.boundary_id)
    tokens = chunks.tokens.size - int(special.sum())
    mean = tokens / chunks.num_documents
    planned = planned_chunks(tokens, chunks.chunk_size, document_tokens=mean)
    assert planned == pytest.approx(chunks.num_chunks, rel=0.01)


def test_the_paper_planned(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    command = ["database.tokens=1.75e12", "retriever=faiss_ivfpq", "chunking=m64"]
    assert main([*command, "rates.embed=80", "rates.search=250", "deadline=24h"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "27,343,750,000 chunks of 64 tokens" in said
    assert "21.0 TB" in said  # 27.3e9 vectors of 384 float16
    assert "5,222 in 1.0 days" in said  # 27.3e9 (1/80 + 1/250) s / 86,400 s
    assert "at most 2,147,483,647 chunks a store: this corpus takes 13 stores" in said


def test_rates_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([TOKENS, "retriever=faiss_ivf", "embedder=hashing", "rates=measure"]) == 0
    said = capsys.readouterr().out
    assert "measured here" in said
    assert "not given" not in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "plan needs database.tokens"),
        ([TOKENS, "database.token=1"], "did you mean database.tokens"),
        ([TOKENS, "database.train_share=2"], "at most 1"),
        (["database.tokens=many"], "expected a number"),
        ([TOKENS, "deadline=24"], "s, m, h or d"),
    ],
)
def test_mistakes_in_its_own_keys(arguments: list[str], expected: str) -> None:
    with pytest.raises(UserError) as raised:
        parse(arguments)
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["retriever=faiss_ivfpqq"], "did you mean retriever=faiss_ivfpq?"),
        (["retriever=faiss_flat", "embedder=sentence_transformer", "embedder.model=x"], "dim=768"),
        (["retriever=http"], "whose index it searches"),
        (["deadline=24h"], "there is no rates.search"),
        (["retriever=faiss_flat", "deadline=24h"], "there is no rates.embed and no rates.search"),
    ],
)
def test_mistakes_in_the_configuration(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([TOKENS, *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_units() -> None:
    assert [in_bytes(x) for x in (0, 999, 1000, 93.2e12)] == ["0 B", "999 B", "1.00 kB", "93.2 TB"]
    assert [in_time(x) for x in (5, 90, 5400, 86400)] == ["5.0 s", "1.5 min", "1.5 h", "1.0 days"]
