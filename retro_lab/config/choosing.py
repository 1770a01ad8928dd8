"""What an optimiser of settings must not choose by."""

from __future__ import annotations

from .errors import UserError
from .fingerprints import wanted_plain
from .schema import Config, Objective


def check_choosing(config: Config) -> None:
    """Refuses to choose settings by another split than validation, or by a gain that isn't there.

    Raises:
        UserError: see above.
    """
    if config.eval.split != "validation":
        raise UserError(
            f"eval.split={config.eval.split}: an optimiser chooses on the validation split; a "
            "score that settings were chosen by says nothing of other text",
            fix="eval.split=validation, and evaluate the chosen run on the test split once",
        )
    if config.objective is Objective.gain and wanted_plain(config) is None:
        raise UserError(
            "objective=gain: a gain is over a plain model, and this run has none (retriever=none, "
            "plain=none, baseline=null or a pretrained backbone)",
            fix="objective=bpb, or train with retrieval and plain=tokens",
        )
