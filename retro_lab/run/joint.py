"""The joint phase of a run: its training phase with the loss of the last steps through a memory."""

from __future__ import annotations

import dataclasses

from retro_lab.config.schema import Config, EvalConfig
from retro_lab.training.joint import JointLoss, TrainedMemory
from retro_lab.training.phase import Phase

from .data.graph import DataGraph
from .evaluating.memory import MemoryScoring
from .model import LanguageModel, build_data


def with_joint(phase: Phase, config: Config, graph: DataGraph, model: LanguageModel) -> Phase:
    """The phase with the last `memory.joint` of its steps, at least one, through the memory.

    The own-document cache is not trained through, since it is no retrieval.

    Args:
        model: that the phase trains.
    """
    share, steps = config.memory.joint, phase.schedule.steps
    if not share:
        return phase
    # Settings of an evaluation are no part of a run, so its training takes none of them.
    memory = dataclasses.replace(config.memory, cache=False)
    own = dataclasses.replace(config, eval=EvalConfig(), memory=memory)
    base = "on" if config.retriever.retrieves else "baseline"
    scoring = MemoryScoring(own, graph, build_data(own, graph), base, model)
    reads = TrainedMemory(scoring.memory, scoring.texts(), graph.chunks, scoring.present_gate)
    return dataclasses.replace(phase, joint=JointLoss(reads, steps - max(1, round(share * steps))))
