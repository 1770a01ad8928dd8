"""The objective of a hyper-parameter search, computed from a run's results."""

from __future__ import annotations

from retro_lab.config.errors import UserError
from retro_lab.config.schema import Objective

from .results import Results

_OWN = ("memory_cache", "memory", "cache", "on", "baseline")
"""The run with everything that it reads: the first of these conditions that was scored."""


def objective(results: Results, wanted: Objective = Objective.bpb) -> float:
    """Bits per byte to minimise, over all chunks of the evaluated split.

    `bpb` is the figure of the run with all that it reads: with its memory, else RETRO[ON], else the
    model alone. `gain` is that figure minus the plain model's, negative if reading helps. The
    baseline cannot replace the plain model of a run with retrieval, since it has read fewer
    training tokens; a memory of a run without retrieval is compared with the model alone.

    Raises:
        UserError: the objective is `gain` and the results have no model to compare with.
    """
    scores = results.metrics[results.evaluation.split]
    own = next(name for name in _OWN if name in scores)
    if wanted is Objective.bpb:
        return scores[own].bpb
    other = "plain" if "on" in scores else "baseline"
    if other == own or other not in scores:
        raise UserError(
            "objective=gain is the run minus the plain model, and results.json has no score of a "
            "plain model",
            fix="evaluate the condition plain as well, or take objective=bpb",
        )
    return scores[own].bpb - scores[other].bpb
