"""Nodes of the data graph for a search: a retriever's index and the table of neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retro_lab.config.schema import RetrieverConfig
from retro_lab.retrieval.base import no_texts
from retro_lab.retrieval.filters.leak_filter import LeakFilter
from retro_lab.retrieval.filters.near_duplicates import NearDuplicates
from retro_lab.retrieval.index_stage import build_index, check_index, index_stage, is_extendable
from retro_lab.retrieval.table import NeighbourTable, build_neighbours, neighbours_stage
from retro_lab.store import Workspace

from .nodes import Node
from .searched import SearchedText

if TYPE_CHECKING:
    from .graph import DataGraph


class Filters(NamedTuple):
    """Filters that drop neighbours from other documents; None turns a filter off."""

    leak: LeakFilter | None = None
    similar: NearDuplicates | None = None


NO_FILTERS = Filters()


def index_node(graph: DataGraph, retriever: RetrieverConfig, searched: SearchedText) -> Node[Path]:
    """The folder of a retriever's index of the searched text."""
    vectors = retriever.needs_embeddings
    base = searched.base if is_extendable(retriever) else None
    below = None if base is None else graph.index(retriever, base)

    def build(workspace: Workspace) -> Mapping[str, Any]:
        folder = None if below is None else below.artifact.path
        given = searched.embeddings if vectors else None
        check_index(retriever, graph.groups.embedder, searched.chunks)
        return build_index(retriever, searched.chunks, given, workspace, folder)

    return Node(
        graph.store,
        lambda: index_stage(
            retriever,
            searched.node.stage,
            searched.vector_stages if vectors else None,
            None if below is None else below.stage,
        ),
        build,
        Path,
        (*searched.nodes(vectors), *(() if below is None else (below,))),
    )


def neighbours_node(
    graph: DataGraph, retriever: RetrieverConfig, filters: Filters, searched: SearchedText
) -> Node[NeighbourTable]:
    """The neighbours of every chunk by a retriever."""
    vectors, count = retriever.needs_embeddings, graph.groups.neighbours.k_store
    index = graph.index(retriever, searched)

    def build(workspace: Workspace) -> Mapping[str, Any]:
        texts = searched.text_of if retriever.needs_texts else no_texts
        return build_neighbours(
            retriever,
            count,
            searched.chunks,
            searched.embeddings if vectors else None,
            index.artifact.path,
            workspace,
            filters.leak,
            texts,
            filters.similar,
        )

    return Node(
        graph.store,
        lambda: neighbours_stage(
            retriever,
            count,
            searched.node.stage,
            index.stage,
            searched.vector_stages if vectors else None,
            *filters,
        ),
        build,
        NeighbourTable.open,
        (index,),
    )
