"""What commands import, so that a forked child need not: seconds that each trial saves."""

from __future__ import annotations

import transformers  # noqa: F401

import retro_lab.app.evaluate
import retro_lab.app.evaluation
import retro_lab.app.experiment
import retro_lab.app.export
import retro_lab.app.launch
import retro_lab.app.model_card
import retro_lab.app.prepare
import retro_lab.app.report
import retro_lab.app.summary
import retro_lab.app.train
import retro_lab.evaluation.plots
import retro_lab.huggingface
import retro_lab.text.tokenizers.fast  # noqa: F401
