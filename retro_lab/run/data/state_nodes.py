"""Nodes of the data graph that depend on a model: its states of the training split, indexed."""

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
    """

    model: LanguageModel
    weights: str
    data: EvaluationData
    stride: int
    batch_size: int


class StateNodes(NamedTuple):
    """The states of a model, and their index."""

    states: Node[Path]
    index: Node[Path]

    def open(self) -> Datastore:
        """The datastore."""
        return Datastore(self.states.artifact, self.index.artifact, _LISTS_VISITED)


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
    return StateNodes(states, index)
