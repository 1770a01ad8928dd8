"""Searches of an evaluation besides the run's own: for control conditions and for overlap."""

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
from ..data.memory_nodes import memory_nodes
from ..data.nodes import Node


def random_retriever(config: Config) -> RandomRetrieverConfig:
    """The retriever of the random control, with another seed than the run's own retriever.

    The seed is `eval.seed + 1`. If the run's neighbours may be random too (random or HTTP
    retriever), the seed is negative, since `retriever.seed` never is.
    """
    seed = config.eval.seed
    if isinstance(config.retriever, RandomRetrieverConfig | HttpRetrieverConfig):
        return RandomRetrieverConfig(name="random", seed=-1 - seed)
    return RandomRetrieverConfig(name="random", seed=seed + 1)


def oracle_retriever() -> OracleRetrieverConfig:
    """The upper bound: a retriever that searches with the text to be predicted."""
    return OracleRetrieverConfig(name="oracle")


def overlap_retriever(config: Config) -> RetrieverConfig:
    """The retriever whose neighbours r(C) is measured on: the run's own (RETRO, B.1).

    Random neighbours would show no leakage, so a random run is measured with BM25.
    """
    if isinstance(config.retriever, RandomRetrieverConfig):
        return Bm25RetrieverConfig(name="bm25")
    return config.retriever


def overlap(graph: DataGraph, config: Config) -> Node[Path]:
    """The folder with the token runs that chunks of the split share with the reference text.

    Args:
        config: of the run, with the requested evaluation.
    """
    asked, retriever = config.eval, overlap_retriever(config)
    name = ("overlap", asked.reference.name, asked.split, f"{asked.overlap_neighbours}")
    return graph.cached_node((*name, repr(retriever)), _overlap, graph, asked, retriever)


def exact_overlap(graph: DataGraph, split: str) -> Node[Path]:
    """The folder with the runs that chunks of a split share with any text that could leak."""
    return graph.cached_node(("exact overlap", split), _exact_overlap, graph, split)


def _exact_overlap(graph: DataGraph, split: str) -> Node[Path]:
    text = graph.leakable
    return Node(
        graph.store,
        lambda: exact_overlap_stage(text.node.stage, split=split),
        lambda workspace: build_exact_overlap(text.chunks, workspace, split=split),
        Path,
        (text.node,),
    )


def exact_runs(graph: DataGraph, split: str, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """int32 [S], longest run that each scored chunk shares with any text that could leak."""
    folder = exact_overlap(graph, split).artifact
    longest = np.load(folder.file("longest_run.npy"), allow_pickle=False)
    return longest[np.searchsorted(graph.chunks.chunks_of(split), rows)]


def _overlap(graph: DataGraph, asked: EvalConfig, retriever: RetrieverConfig) -> Node[Path]:
    text = graph.leakable
    if asked.reference is Reference.exact_corpus:
        return exact_overlap(graph, asked.split)
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
    """int32 [S], tokens of the longest shared run of each evaluated chunk, in chunk order."""
    return np.load(overlap(graph, config).artifact.file("longest_run.npy"), allow_pickle=False)


def matching_runs(graph: DataGraph, config: Config) -> NDArray[np.uint16]:
    """uint16 [S, M], tokens of the longest run in the reference text from each token on."""
    return np.load(overlap(graph, config).artifact.file("matching.npy"), allow_pickle=False)


def nodes_of_run(graph: DataGraph, config: Config) -> list[Node[Any]]:
    """The nodes that training and evaluation of a run read, requirements first."""
    found: list[Node[Any]] = [graph.own.chunks]
    asked = config.eval
    if config.memory.experts:
        found += memory_nodes(graph, config.memory)
        if asked.leakage:
            found.append(exact_overlap(graph, asked.split))
    if graph.retrieves:
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
