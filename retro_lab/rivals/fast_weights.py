"""Weights of a language model that are changed while text is scored, and then put back.

A step is w <- w - rate * g / (rms + mean), with g the gradient of the mean nats of some text, rms
the root mean square of the weight's gradient over training windows, and mean the mean of rms over
all weights (Krause et al. 2018, "Dynamic Evaluation of Neural Sequence Models", section 4, without
the decay). So a rate is of the size of a weight's change, whatever the model.

Shapes: N tokens of an input, T scored ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro_lab.config.errors import UserError
from retro_lab.evaluation.compressors.subset import Subset
from retro_lab.run.model import LanguageModel
from retro_lab.store import track

from .blocks import IGNORED, Block

WINDOWS = 64
"""Training windows over which gradients are measured."""


class FastWeights:
    """A model, and steps on its weights that can be undone.

    Args:
        model: in evaluation mode, so that nothing is dropped.
        scales: from `gradient_scales`.
    """

    def __init__(self, model: LanguageModel, scales: list[Tensor]) -> None:
        self.model, self.scales = model, scales
        self.weights = list(model.parameters())
        self.trained = [weight.detach().clone() for weight in self.weights]
        self.device = self.weights[0].device

    def nats(self, text: NDArray[np.int64], scored: int) -> Tensor:
        """[T] nats of the last `scored` tokens of a text, with a gradient.

        Args:
            text: tokens of one document; the model reads all but the last.
        """
        tokens = torch.from_numpy(text).to(self.device)[None]
        ids, targets = tokens[:, :-1], tokens[:, 1:].clone()
        targets[:, : targets.shape[1] - scored] = IGNORED
        nats = self.model.token_nats(ids, targets, None, torch.zeros_like(ids))
        return nats[0, nats.shape[1] - scored :]

    def step(self, nats: Tensor, rate: float) -> None:
        """One step against the mean of `nats`."""
        gradients = torch.autograd.grad(nats.mean(), self.weights, allow_unused=True)
        with torch.no_grad():
            for weight, gradient, scale in zip(self.weights, gradients, self.scales, strict=True):
                if gradient is not None:
                    weight.addcmul_(gradient, scale, value=-rate)

    def reset(self) -> None:
        """Puts the trained weights back."""
        with torch.no_grad():
            for weight, trained in zip(self.weights, self.trained, strict=True):
                weight.copy_(trained)


@contextmanager
def fast_weights(model: LanguageModel, scales: list[Tensor]) -> Iterator[FastWeights]:
    """`FastWeights` of a model, which has its trained weights again afterwards."""
    fast = FastWeights(model, scales)
    try:
        yield fast
    finally:
        fast.reset()


def check_finite(nats: NDArray[np.float64], rates: str) -> None:
    """Checks the scores of text that the rate was not tuned on.

    Args:
        rates: key of the rates tried.

    Raises:
        UserError: the steps diverged.
    """
    if not np.isfinite(nats).all():
        raise UserError(
            f"{rates}: the rate that validation chose diverges on the scored text",
            fix=f"leave it out of {rates}",
        )


def text_of(subset: Subset, block: Block) -> NDArray[np.int64]:
    """The block's tokens after the context that the baseline predicts them from."""
    return subset.tokens_of(block.document)[block.context : block.stop]


def gradient_scales(model: LanguageModel, subset: Subset) -> list[Tensor]:
    """1 / (rms + mean) of each weight, in the order of `model.parameters()`.

    Args:
        subset: the training text, of which windows at equal distances are read.
    """
    data, windows = subset.windows()
    places = np.unique(np.linspace(0, len(windows) - 1, WINDOWS).astype(np.int64))
    device, weights = next(model.parameters()).device, list(model.parameters())
    squares = [torch.zeros_like(weight) for weight in weights]
    with track(len(places), "measuring gradients", "windows") as advance:
        for window in windows[places].tolist():
            batch = data.__getitems__([window])
            ids, targets, documents = (
                batch[name].to(device) for name in ("input_ids", "targets", "document_ids")
            )
            nats = model.token_nats(ids, targets, None, documents)
            mean = nats.sum() / (targets != IGNORED).sum()
            for square, gradient in zip(
                squares, torch.autograd.grad(mean, weights, allow_unused=True), strict=True
            ):
                if gradient is not None:
                    square.addcmul_(gradient, gradient)
            advance(1)
    sizes = [square.div_(len(places)).sqrt_() for square in squares]
    typical = sum(float(size.sum()) for size in sizes) / sum(size.numel() for size in sizes)
    return [(size + typical).reciprocal_() for size in sizes]
