"""Searches that an evaluation makes besides the run's own: the controls, and those for overlap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.schema import (
    Bm25RetrieverConfig,
    Config,
    EvalConfig,
    HttpRetrieverConfig,
    OracleRetrieverConfig,
    RandomRetrieverConfig,
    Reference,
    RetrieverConfig,
)
from retro_lab.evaluation.measure.exact_overlap_stage import (
    build_exact_overlap,
    exact_overlap_stage,
)
from retro_lab.evaluation.measure.overlap_stage import build_overlap, overlap_stage

from ..data.graph import DataGraph
from ..data.nodes import Node


def random_retriever(config: Config) -> RandomRetrieverConfig:
    """The random control, never the draw that the run itself reads.

    Where the run may read random neighbours too, by itself or from a service, the control's seed
    is negative, which `retriever.seed` never is. Elsewhere it is `eval.seed + 1`.
    """
    seed = config.eval.seed
    if isinstance(config.retriever, RandomRetrieverConfig | HttpRetrieverConfig):
        return RandomRetrieverConfig(name="random", seed=-1 - seed)
    return RandomRetrieverConfig(name="random", seed=seed + 1)


def oracle_retriever() -> OracleRetrieverConfig:
    """The upper bound: what the database holds of the very text that is to be predicted."""
    return OracleRetrieverConfig(name="oracle")


def overlap_retriever(config: Config) -> RetrieverConfig:
    """Whose neighbours are searched for leaked text: the run's own retriever (RETRO, B.1).

    Random neighbours would find nothing, so that control is filtered by BM25's.
    """
    if isinstance(config.retriever, RandomRetrieverConfig):
        return Bm25RetrieverConfig(name="bm25")
    return config.retriever


def overlap(graph: DataGraph, config: Config) -> Node[Path]:
    """The folder of the runs that chunks of the evaluated split share with the reference text.

    Args:
        config: of the run, with the evaluation that is asked for.
    """
    asked, retriever = config.eval, overlap_retriever(config)
    name = ("overlap", asked.reference.name, asked.split, f"{asked.overlap_neighbours}")
    return graph.once((*name, repr(retriever)), _overlap, graph, asked, retriever)


def _overlap(graph: DataGraph, asked: EvalConfig, retriever: RetrieverConfig) -> Node[Path]:
    text = graph.leakable
    if asked.reference is Reference.exact_corpus:
        return Node(
            graph.store,
            lambda: exact_overlap_stage(text.node.stage, split=asked.split),
            lambda workspace: build_exact_overlap(text.chunks, workspace, split=asked.split),
            Path,
            (text.node,),
        )
    found = graph.neighbours(retriever, searched=text)
    measured = {
        "split": asked.split,
        "count": asked.overlap_neighbours,
        "continuation_chunks": 1,
    }
    return Node(
        graph.store,
        lambda: overlap_stage(found.stage, text.node.stage, **measured),
        lambda workspace: build_overlap(text.chunks, found.data, workspace, **measured),
        Path,
        (text.node, found),
    )


def longest_runs(graph: DataGraph, config: Config) -> NDArray[np.int32]:
    """int32 [S], longest shared run of each chunk of the evaluated split, in chunk order."""
    return np.load(overlap(graph, config).artifact.file("longest_run.npy"), allow_pickle=False)


def matching_runs(graph: DataGraph, config: Config) -> NDArray[np.uint16]:
    """uint16 [S, M], longest run in the training text from each token of these chunks."""
    return np.load(overlap(graph, config).artifact.file("matching.npy"), allow_pickle=False)


def nodes_of_run(graph: DataGraph, config: Config) -> list[Node[Any]]:
    """What a run trains on and what its evaluation searches, each after what it is made from."""
    found: list[Node[Any]] = [graph.own.chunks]
    if graph.reads:
        asked = config.eval
        found.append(graph.own_neighbours)
        if asked.max_run is not None:
            filters = graph.stricter_filters(config.scored_max_run)
            found.append(graph.neighbours(config.retriever, filters))
        if asked.random:
            found.append(graph.neighbours(random_retriever(config)))
        if asked.oracle:
            found.append(graph.neighbours(oracle_retriever()))
        if asked.leakage and asked.reference is not Reference.seen_neighbours:
            found.append(overlap(graph, config))
    return found
