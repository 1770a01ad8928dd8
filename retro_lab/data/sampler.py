"""A resumable sampler: batches are a pure function of the seed and the samples consumed.

A plain DataLoader restarts the epoch after an interruption. This sampler resumes where training
stopped, for any number of loader workers and ranks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from retro_lab.config.errors import UserError


class ResumableSampler(Sampler[list[int]]):
    """An endless stream of batches, reshuffled each epoch and divided among ranks.

    Sample s of the stream is entry s % num_samples of the permutation of epoch s // num_samples.
    Global batch g holds samples [g * batch_size, (g + 1) * batch_size), possibly across the end of
    an epoch. A rank reads its slice of each micro-batch, so the global batches are the same for
    any number of devices and any accumulation.

    Args:
        num_samples: size of the dataset.
        batch_size: samples an optimiser step, over all ranks and micro-batches.
        seed: of the permutations.
        start: samples consumed already.
        rank: this process.
        world_size: number of processes.
        accumulate: micro-batches an optimiser step.

    Raises:
        UserError: the batch cannot be divided evenly, or the dataset is empty.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
    ) -> None:
        if num_samples < 1:
            raise UserError(
                "the training split has no window to train on",
                fix="give the corpus more documents, or a smaller share to validation and test",
            )
        if batch_size % (world_size * accumulate):
            raise UserError(
                f"schedule.batch_size={batch_size} cannot be shared out over {world_size} "
                f"process(es) times trainer.accumulate={accumulate}",
                fix=f"make schedule.batch_size a multiple of {world_size * accumulate}",
            )
        self.num_samples = num_samples
        self.micro_size = batch_size // accumulate  # samples a micro-batch, over all ranks
        self.seed = seed
        self.start = start
        self.rank = rank
        self.share = self.micro_size // world_size
        self._permutation: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __iter__(self) -> Iterator[list[int]]:
        position = self.start
        while True:
            first = position + self.rank * self.share
            yield self.samples(first, first + self.share)
            position += self.micro_size

    def samples(self, start: int, stop: int) -> list[int]:
        """Dataset indices of the stream's samples [start, stop)."""
        indices: list[int] = []
        while start < stop:
            epoch, place = divmod(start, self.num_samples)
            end = min(place + stop - start, self.num_samples)
            indices += self._epoch(epoch)[place:end].tolist()
            start += end - place
        return indices

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        """The permutation of an epoch; caches the latest one."""
        if self._permutation[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
            self._permutation = (epoch, order)
        return self._permutation[1]
