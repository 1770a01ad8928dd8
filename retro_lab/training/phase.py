"""A phase of training as data: a baseline has one, a retrofit a second on its weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from retro_lab.config.schema import Config, OptimConfig, ScheduleConfig

from .curriculum import NeighbourCurriculum

RETROFIT = "retrofit"
VALIDATIONS = 4
"""Of a retrofit, unless `recipe.val_every` or more frequent validation is asked for."""


@dataclass(frozen=True)
class Phase:
    """What is trained in one go, and how.

    Attributes:
        name: shown with the progress.
        optim: the optimiser.
        schedule: steps, and the shape of the learning rate over them.
        val_every: steps between validations.
        lr: peak rate; the optimiser's own unless given.
        curriculum: which neighbours a training step reads; all of the batch's unless given.
        frozen_until: steps before which the backbone's parameters stay as they are.
        tokens_before: scored tokens behind the weights that the phase begins with.
    """

    name: str
    optim: OptimConfig
    schedule: ScheduleConfig
    val_every: int
    lr: float | None = None
    curriculum: NeighbourCurriculum | None = None
    frozen_until: int = 0
    tokens_before: int = 0

    @classmethod
    def first(cls, config: Config, name: str, pad_id: int) -> Phase:
        """Training from freshly drawn weights, or of a pretrained backbone's."""
        steps = config.schedule.steps
        return cls(
            name,
            config.optim,
            config.schedule,
            config.trainer.val_every,
            curriculum=NeighbourCurriculum.of(config.recipe, steps, pad_id),
        )

    @classmethod
    def retrofit(cls, config: Config, pad_id: int, tokens_before: int) -> Phase:
        """Retrieval on a trained backbone, as `recipe` says."""
        recipe, schedule = config.recipe, config.schedule
        warmup = schedule.warmup_steps if recipe.warmup_steps is None else recipe.warmup_steps
        often = min(max(recipe.steps // VALIDATIONS, 1), config.trainer.val_every)
        return cls(
            RETROFIT,
            recipe.optim or config.optim,
            dataclasses.replace(schedule, steps=recipe.steps, warmup_steps=warmup),
            recipe.val_every or often,
            recipe.lr,
            NeighbourCurriculum.of(recipe, recipe.steps, pad_id),
            recipe.unfreeze_after or 0,
            tokens_before,
        )
