"""Nodes of the data graph for a memory: sorted contexts and topics of the searched text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retro_lab.config.schema import MemoryConfig
from retro_lab.memory import match_heads
from retro_lab.memory.context_reader import ContextReader
from retro_lab.memory.database_experts import DatabaseExperts
from retro_lab.memory.evidence import Experts
from retro_lab.memory.memory import Memory
from retro_lab.memory.own_document import OwnDocument
from retro_lab.memory.sorted_contexts import build_contexts, contexts_stage, open_segments
from retro_lab.memory.topics import Topics, build_topics, topics_stage
from retro_lab.store import Workspace, lineage

from .nodes import Node
from .searched import SearchedText
from .state_nodes import StateNodes

if TYPE_CHECKING:
    from .graph import DataGraph


def contexts_node(graph: DataGraph, searched: SearchedText) -> Node[Path]:
    """The folder of the sorted contexts that the base of the searched text lacks."""
    return graph.cached_node(("contexts", searched.key), _contexts, graph, searched)


def _contexts(graph: DataGraph, searched: SearchedText) -> Node[Path]:
    below = None if searched.base is None else contexts_node(graph, searched.base)

    def build(workspace: Workspace) -> Mapping[str, Any]:
        folder = None if below is None else below.artifact.path
        return build_contexts(searched.chunks, workspace, folder)

    return Node(
        graph.store,
        lambda: contexts_stage(searched.node.stage, None if below is None else below.stage),
        build,
        Path,
        (searched.node, *(() if below is None else (below,))),
    )


def topics_node(graph: DataGraph, searched: SearchedText) -> Node[Topics]:
    """The tf-idf vectors of the searched documents."""
    return graph.cached_node(("topics", searched.key), _topics, graph, searched)


def _topics(graph: DataGraph, searched: SearchedText) -> Node[Topics]:
    return Node(
        graph.store,
        lambda: topics_stage(searched.node.stage),
        lambda workspace: build_topics(searched.chunks, workspace),
        Topics,
        (searched.node,),
    )


def memory_nodes(
    graph: DataGraph, config: MemoryConfig, states: StateNodes | None = None
) -> list[Node[Any]]:
    """The nodes that a memory reads, requirements first.

    Args:
        states: of the language model, for `knn`; None leaves these nodes out.
    """
    found: list[Node[Any]] = []
    if "suffix" in config.experts:
        found += context_nodes(graph)
    if "topic" in config.experts:
        found.append(topics_node(graph, graph.searched))
    if "knn" in config.experts and states is not None:
        found += states
    return found


def memory_lineage(graph: DataGraph, config: MemoryConfig) -> dict[str, str]:
    """Key by stage of the database that a memory reads; states of a model are left out.

    The version of the heads stands for the way in which states are read.
    """
    found = {"match_heads": str(match_heads.VERSION)} if "knn" in config.experts else {}
    for node in memory_nodes(graph, config):
        found |= lineage(node.stage)
    return found


def open_memory(
    graph: DataGraph, config: MemoryConfig, threads: int, states: StateNodes | None = None
) -> Memory:
    """The memory of the searched text.

    Args:
        config: reads something.
        threads: processors that count contexts.
        states: of the language model, for `knn`.
    """
    kinds: list[Experts] = []
    if "suffix" in config.experts:
        reader, topics = open_contexts(graph, config), None
        if "topic" in config.experts:
            topics = topics_node(graph, graph.searched).data
        kinds.append(DatabaseExperts(reader, topics, threads))
    if "knn" in config.experts:
        assert states is not None
        vocab_size = graph.own.chunks.data.vocab_size
        kinds.append(states.open(vocab_size, config.max_run))
    if config.cache:
        kinds.append(OwnDocument(graph.own.chunks.data.vocab_size, threads))
    return Memory(kinds)


def open_contexts(graph: DataGraph, config: MemoryConfig) -> ContextReader:
    """The reader of the searched text's contexts."""
    segments = [part for node in context_nodes(graph) for part in open_segments(node.data)]
    return ContextReader(graph.searched.chunks, segments, max_run=config.max_run)


def context_nodes(graph: DataGraph) -> list[Node[Path]]:
    """The nodes of the sorted contexts, those of the first text first."""
    found, searched = [], graph.searched
    while searched is not None:
        found.append(contexts_node(graph, searched))
        searched = searched.base
    return found[::-1]
