"""Nodes of the data graph that depend on a model: states of the training split, index and heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retro_lab.data.dataset import EvaluationData
from retro_lab.memory.datastore import (
    COMPRESSED,
    Datastore,
    build_index,
    build_states,
    index_stage,
    states_stage,
)
from retro_lab.memory.match_heads import MatchHeads, build_heads, heads_stage
from retro_lab.memory.nearest_states import NearestStates

from .nodes import Node

if TYPE_CHECKING:
    from ..model import LanguageModel
    from .graph import DataGraph

_LISTS_VISITED = 32


@dataclass(frozen=True)
class StateSource:
    """A model whose states are searched.

    Attributes:
        model: reads the neighbours of the windows, if these have any.
        weights: digest of the model.
        data: windows of the training split.
        stride: tokens between the windows.
        batch_size: windows a forward pass.
        max_run: of the memory that reads them.
    """

    model: LanguageModel
    weights: str
    data: EvaluationData
    stride: int
    batch_size: int
    max_run: int | None = None


class StateNodes(NamedTuple):
    """The states of a model, their index, and the heads that were fitted on them."""

    states: Node[Path]
    index: Node[Path]
    heads: Node[MatchHeads]

    def open(self, vocab_size: int, max_run: int | None) -> NearestStates:
        """The experts over these states."""
        datastore = _datastore(self.states, self.index)
        return NearestStates(datastore, self.heads.data, vocab_size, max_run)


def _datastore(states: Node[Path], index: Node[Path]) -> Datastore:
    return Datastore(states.artifact, index.artifact, _LISTS_VISITED)


def state_nodes(graph: DataGraph, source: StateSource) -> StateNodes:
    """The nodes of a model's states; the same stages as kNN-LM's for a model without retrieval."""
    data = source.data
    needs = graph.own.chunks, *([] if data.table is None else [graph.own_neighbours])
    states = Node(
        graph.store,
        lambda: states_stage(
            graph.own.chunks.stage,
            source.weights,
            window=data.window_chunks * data.store.chunk_size,
            stride=source.stride,
            neighbours=None if data.table is None else graph.own_neighbours.stage,
            k=data.k,
        ),
        lambda workspace: build_states(
            source.model, data, np.arange(len(data)), source.batch_size, workspace
        ),
        Path,
        needs,
    )
    index = Node(
        graph.store,
        lambda: index_stage(states.stage, COMPRESSED),
        lambda workspace: build_index(states.artifact, COMPRESSED, workspace),
        Path,
        (states,),
    )
    heads = Node(
        graph.store,
        lambda: heads_stage(states.stage, index.stage, source.max_run),
        lambda workspace: build_heads(_datastore(states, index), source.max_run, workspace),
        MatchHeads.load,
        (states, index),
    )
    return StateNodes(states, index, heads)
