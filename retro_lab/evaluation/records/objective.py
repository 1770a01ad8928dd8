"""The objective of a hyper-parameter search, computed from a run's results."""

from __future__ import annotations

from retro_lab.config.errors import UserError
from retro_lab.config.schema import Objective

from ..measure.leakage import UNFILTERED
from .results import Results


def objective(results: Results, wanted: Objective = Objective.bpb) -> float:
    """Bits per byte to minimise, over all chunks of the evaluated split.

    `bpb` is the figure of RETRO[ON], or of the model itself if it has no retrieval. `gain` is
    RETRO[ON] minus the plain model, negative if retrieval helps; the baseline cannot replace the
    plain model, since it has read fewer training tokens.

    Raises:
        UserError: the objective is `gain` and the results have no plain model.
    """
    if wanted is Objective.gain:
        gain = results.leakage.difference("on", "plain", UNFILTERED)
        if gain is None or gain.delta_bpb is None:
            raise UserError(
                "objective=gain is RETRO[ON] minus the plain model, and results.json has no "
                "difference of these two",
                fix="evaluate the condition plain as well, or take objective=bpb",
            )
        return gain.delta_bpb
    scores = results.metrics[results.evaluation.split]
    return scores["on" if "on" in scores else "baseline"].bpb
