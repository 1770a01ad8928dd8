"""Curriculum over neighbours in training: fewer neighbours a chunk, or none for some chunks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retro_lab.config.schema import Curriculum, RecipeConfig


@dataclass(frozen=True)
class NeighbourCurriculum:
    """Drops some neighbours of a training batch; evaluation reads all of them.

    Random draws use torch's global generator, which the module seeds from seed, step and rank, so
    that a resumed run repeats them.

    Attributes:
        curriculum: how many neighbours a step reads.
        dropout: share of chunks whose neighbours are all dropped.
        steps: of the phase.
        pad_id: token id that fills a dropped neighbour.
    """

    curriculum: Curriculum
    dropout: float
    steps: int
    pad_id: int

    @classmethod
    def of(cls, recipe: RecipeConfig, steps: int, pad_id: int) -> NeighbourCurriculum | None:
        """The recipe's curriculum; None if every step reads all neighbours."""
        if recipe.k_curriculum is Curriculum.none and not recipe.neighbour_dropout:
            return None
        return cls(recipe.k_curriculum, recipe.neighbour_dropout, steps, pad_id)

    def __call__(self, neighbour_ids: Tensor, step: int) -> Tensor:
        """[B, U, K', R] from [B, U, K, R]: the K' nearest neighbours, `pad_id` where dropped.

        Args:
            step: optimiser steps done.
        """
        shown = neighbour_ids[:, :, : self.count(neighbour_ids.shape[2], step)]
        if not self.dropout:
            return shown
        dropped = torch.rand(shown.shape[:2], device=shown.device) < self.dropout
        return shown.masked_fill(dropped[..., None, None], self.pad_id)

    def count(self, k: int, step: int) -> int:
        """Number of neighbours, at most k, that a step reads.

        `growing` spends an equal share of the steps on each number from 1 to k.
        """
        if self.curriculum is Curriculum.growing:
            return min(k, 1 + step * k // self.steps)
        if self.curriculum is Curriculum.random:
            return int(torch.randint(1, k + 1, ()))
        return k
