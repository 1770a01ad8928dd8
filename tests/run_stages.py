"""The stages behind a configuration, for tests that compare or build them all."""

from __future__ import annotations

from retro_lab.config.schema import Config
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.data.nodes import in_building_order
from retro_lab.run.evaluating.probes import nodes_of_run
from retro_lab.store import Artifact, Stage
from retro_lab.store.engine import Engine


def stages_of(config: Config) -> list[Artifact | Stage]:
    """What training and evaluation read, in building order; nothing is built."""
    return [node.stage for node in in_building_order(nodes_of_run(DataGraph(config), config))]


def built(
    config: Config, engine: Engine | None = None, largest_block: int | None = None
) -> dict[str, Artifact]:
    """The same, built, by `stage/key`.

    Args:
        engine: does the blocks; the one that `prepare.engine` names unless given.
        largest_block: rows of a block at most; as many as the stages take unless given.
    """
    graph = DataGraph(config)
    graph.store.engine = engine or graph.store.engine
    graph.store.largest_block = largest_block
    nodes = in_building_order(nodes_of_run(graph, config))
    return {f"{node.artifact.stage}/{node.artifact.key}": node.artifact for node in nodes}
