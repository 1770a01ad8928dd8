"""What a gate sees of each token: the language model's view beside the experts' evidence.

Every name of an expert or an input begins with its family and a colon: `suffix:3`, `model:entropy`.

Legend: T tokens, E experts, F features, I inputs of a gate, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .evidence import Evidence

_OF_MODEL = ("model:entropy", "model:top", "model:place")
_BLOCK = 64  # rows of logits that fit a core's cache


def input_names(experts: Sequence[str], features: Sequence[str]) -> tuple[str, ...]:
    """The name of each of the I inputs of a gate, in the order of `Readings.inputs`."""
    theirs = (f"{name}_{what}" for what in ("log_probability", "agrees") for name in experts)
    return (*_OF_MODEL, *features, *theirs)


def in_families(names: Sequence[str], families: Collection[str]) -> NDArray[np.intp]:
    """Positions of the names that belong to one of the families, or to the model."""
    kept = {"model", *families}
    return np.flatnonzero([name.partition(":")[0] in kept for name in names])


class ModelView(NamedTuple):
    """What the language model says about T tokens, as far as a mixture needs it.

    Attributes:
        nats: float64 [T], of the token that really follows.
        entropy: float32 [T], in nats.
        top: float32 [T], log-probability of its favourite.
        favourite: int32 [T].
        of_favourites: float32 [T, E], log-probability of each expert's favourite; 0 without one.
    """

    nats: NDArray[np.float64]
    entropy: NDArray[np.float32]
    top: NDArray[np.float32]
    favourite: NDArray[np.int32]
    of_favourites: NDArray[np.float32]

    @classmethod
    def of(
        cls, logits: Tensor, targets: NDArray[np.integer], favourites: NDArray[np.int32]
    ) -> ModelView:
        """The view of logits [T, V] or log-probabilities, on any device."""
        wanted = torch.from_numpy(np.asarray(targets, np.int64))[:, None].to(logits.device)
        theirs = torch.from_numpy(np.maximum(favourites, 0).astype(np.int64)).to(logits.device)
        rows = zip(*(each.split(_BLOCK) for each in (logits, wanted, theirs)), strict=True)
        parts = [view_of(*each) for each in rows]
        nats, entropy, top, favourite, of_favourites = (
            torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True)
        )
        there = np.where(favourites >= 0, of_favourites, np.float32(0))
        return cls(nats.astype(np.float64), entropy, top, favourite.astype(np.int32), there)

    @classmethod
    def of_each(
        cls,
        logits: Tensor,
        targets: NDArray[np.integer],
        favourites: Sequence[NDArray[np.int32]],
    ) -> list[ModelView]:
        """The view for each of several memories, from one look at the logits."""
        view = cls.of(logits, targets, np.concatenate(favourites, axis=1))
        ends = np.cumsum([each.shape[1] for each in favourites])[:-1]
        parts = np.split(view.of_favourites, ends, axis=1)
        return [view._replace(of_favourites=part) for part in parts]


def view_of(logits: Tensor, wanted: Tensor, theirs: Tensor) -> tuple[Tensor, ...]:
    """The fields of a `ModelView` for logits [T, V], with gradients.

    Args:
        wanted: [T, 1], the tokens that really follow.
        theirs: [T, E], each expert's favourite, or any token.
    """
    logits = logits.float()
    largest, favourite = logits.max(-1, keepdim=True)
    shifted = (logits - largest).clamp_min(-1e4)  # a pointer's mixture may give a token nothing
    weights = shifted.exp()
    total = weights.sum(-1, keepdim=True)
    log_total = total.log()
    entropy = log_total - (weights * shifted).sum(-1, keepdim=True) / total
    nats = log_total - shifted.gather(1, wanted)
    of_favourites = shifted.gather(1, theirs) - log_total
    return nats[:, 0], entropy[:, 0], -log_total[:, 0], favourite[:, 0], of_favourites


def gate_inputs(view: Sequence[Tensor], evidence: Evidence, place: NDArray[np.integer]) -> Tensor:
    """[T, I], the features of `Readings.of`, with gradients.

    Args:
        view: the fields of a `ModelView`, as `view_of` gives them.
    """
    _, entropy, top, favourite, of_favourites = view
    theirs, features, there = (
        torch.from_numpy(each).to(top.device)
        for each in (evidence.favourite, evidence.features, np.log1p(place).astype(np.float32))
    )
    of_model = torch.stack([entropy, top, there], dim=1)
    agrees = (theirs == favourite[:, None]).to(top)
    return torch.cat([of_model, features, of_favourites.where(theirs >= 0, 0), agrees], dim=1)


class Readings(NamedTuple):
    """T tokens as a gate sees them.

    Attributes:
        features: float32 [T, I], all that the shares may depend on, by `input_names`.
        present: bool [T, E].
        probability: float32 [T, E], of the true token, by each expert.
        nats: float64 [T], of the true token, by the language model.
    """

    features: NDArray[np.float32]
    present: NDArray[np.bool_]
    probability: NDArray[np.float32]
    nats: NDArray[np.float64]

    @classmethod
    def of(cls, evidence: Evidence, model: ModelView, place: NDArray[np.integer]) -> Readings:
        """The readings of tokens at these places of their documents."""
        agrees = evidence.favourite == model.favourite[:, None]
        of_model = np.stack([model.entropy, model.top, np.log1p(place)], axis=1)
        columns = [of_model, evidence.features, model.of_favourites, agrees]
        features = np.concatenate(columns, axis=1).astype(np.float32)
        return cls(features, evidence.present, evidence.probability, model.nats)

    @classmethod
    def stacked(cls, parts: Sequence[Readings]) -> Readings:
        """The readings of several texts, one after the other."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def take(self, inputs: NDArray[np.intp], experts: NDArray[np.intp]) -> Readings:
        """The readings with some of the inputs and experts only."""
        columns = self.present[:, experts], self.probability[:, experts]
        return Readings(self.features[:, inputs], *columns, self.nats)
