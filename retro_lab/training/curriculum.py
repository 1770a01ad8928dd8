"""What a training step shows of its neighbours: fewer of them, or none for some chunks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retro_lab.config.schema import Curriculum, RecipeConfig


@dataclass(frozen=True)
class NeighbourCurriculum:
    """Thins out the neighbours of a training batch; scoring always sees all of them.

    What is drawn comes from torch's global generator, which the module seeds from run, step and
    rank, so that a resumed run draws the same.

    Attributes:
        curriculum: how many neighbours a step reads.
        dropout: share of chunks without any.
        steps: of the phase.
        pad_id: what a missing neighbour consists of.
    """

    curriculum: Curriculum
    dropout: float
    steps: int
    pad_id: int

    @classmethod
    def of(cls, recipe: RecipeConfig, steps: int, pad_id: int) -> NeighbourCurriculum | None:
        """The recipe's, or None where it shows everything."""
        if recipe.k_curriculum is Curriculum.none and not recipe.neighbour_dropout:
            return None
        return cls(recipe.k_curriculum, recipe.neighbour_dropout, steps, pad_id)

    def __call__(self, neighbour_ids: Tensor, step: int) -> Tensor:
        """[B, U, K', R] of [B, U, K, R]: the K' nearest, rows of pad_id for chunks without.

        Args:
            step: optimiser steps done.
        """
        shown = neighbour_ids[:, :, : self.count(neighbour_ids.shape[2], step)]
        if not self.dropout:
            return shown
        dropped = torch.rand(shown.shape[:2], device=shown.device) < self.dropout
        return shown.masked_fill(dropped[..., None, None], self.pad_id)

    def count(self, k: int, step: int) -> int:
        """Neighbours of k that a step reads; `growing` spends an equal share on each number."""
        if self.curriculum is Curriculum.growing:
            return min(k, 1 + step * k // self.steps)
        if self.curriculum is Curriculum.random:
            return int(torch.randint(1, k + 1, ()))
        return k
