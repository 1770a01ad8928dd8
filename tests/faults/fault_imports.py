"""What commands import, so that a forked child need not: seconds that each trial saves."""

from __future__ import annotations

import transformers  # noqa: F401

import retro_lab.commands.evaluate
import retro_lab.commands.export
import retro_lab.commands.generate
import retro_lab.commands.launch
import retro_lab.commands.prepare
import retro_lab.commands.report
import retro_lab.commands.summary
import retro_lab.commands.train
import retro_lab.evaluation.report.model_card
import retro_lab.evaluation.report.plots
import retro_lab.huggingface
import retro_lab.run.evaluating.evaluate
import retro_lab.run.experiment
import retro_lab.text.tokenizers.fast  # noqa: F401
