"""A memory: kinds of experts that are read together, and the gate that mixes them into a model.

Legend: T tokens, E experts, I inputs of a gate, V vocabulary, D width of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from .evidence import Evidence, Experts, Text
from .gate import Gate, log_parts
from .readings import ModelView, Readings, input_names

_WEIGHTS, _NAMES = "gate.safetensors", "gate.json"
SHIPPED = Path(__file__).parent / "gates" / "shipped"
"""Folder of the gate that comes with the package, over suffix and topic."""


class Memory:
    """All experts of some kinds.

    Args:
        kinds: at least one.

    Attributes:
        experts: name of each of the E experts.
        inputs: name of each of the I inputs of a gate.
    """

    def __init__(self, kinds: Sequence[Experts]) -> None:
        self.kinds = list(kinds)
        self.experts = tuple(name for kind in kinds for name in kind.experts)
        features = [name for kind in kinds for name in kind.features]
        self.inputs = input_names(self.experts, features)

    @property
    def families(self) -> list[str]:
        """Families of experts, in order: `suffix`, `topic`, `knn`, `cache`."""
        return list(dict.fromkeys(name.partition(":")[0] for name in self.experts))

    @property
    def needs_states(self) -> bool:
        """Whether it is read with states of the language model."""
        return any(kind.needs_states for kind in self.kinds)

    def read(
        self, text: Text, start: int, stop: int, states: NDArray[np.float32] | None = None
    ) -> Evidence:
        """The evidence of all experts about tokens [start, stop) of a text, from 1 on.

        Args:
            states: [stop - start, D], of the language model where it predicts these tokens; needed
                by a memory that needs states.
        """
        return Evidence.joined([kind.read(text, start, stop, states) for kind in self.kinds])

    def mixture(
        self, text: Text, shares: NDArray[np.float32], states: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """[V], the sum of share [E] times distribution over what follows the whole text.

        Args:
            states: [1, D], as in `read`.
        """
        total, start = None, 0
        for kind in self.kinds:
            part = kind.mixture(text, shares[start : start + len(kind.experts)], states)
            total = part if total is None else total + part
            start += len(kind.experts)
        assert total is not None
        return total


@dataclass(frozen=True)
class FittedGate:
    """A gate over some families of a memory's experts.

    Attributes:
        gate: its network.
        experts: names of the experts that it mixes.
        inputs: names of what it sees.
    """

    gate: Gate
    experts: tuple[str, ...]
    inputs: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Writes the gate into an existing folder."""
        # safetensors' own files can be read by their owner alone
        (folder / _WEIGHTS).write_bytes(save(self.gate.state_dict()))
        names = {"experts": self.experts, "inputs": self.inputs}
        (folder / _NAMES).write_bytes(orjson.dumps(names, option=orjson.OPT_INDENT_2))

    @classmethod
    def load(cls, folder: Path) -> FittedGate:
        """Reads the gate from a folder."""
        names = orjson.loads((folder / _NAMES).read_bytes())
        gate = Gate(len(names["inputs"]), len(names["experts"]))
        gate.load_state_dict(load_file(str(folder / _WEIGHTS)))
        return cls(gate.eval(), tuple(names["experts"]), tuple(names["inputs"]))

    def positions(self, memory: Memory) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Positions of the gate's inputs and experts among those of a memory.

        Raises:
            ValueError: the memory lacks one.
        """
        inputs = [memory.inputs.index(name) for name in self.inputs]
        experts = [memory.experts.index(name) for name in self.experts]
        return np.array(inputs, np.intp), np.array(experts, np.intp)

    def nats(self, readings: Readings, memory: Memory) -> NDArray[np.float64]:
        """[T], -log p of the true tokens, from readings of the whole memory."""
        return self.gate.nats(readings.take(*self.positions(memory)))

    def paid(
        self, readings: Readings, memory: Memory
    ) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        """What the experts gave to the probability of the true tokens under the mixture.

        Returns:
            [T] their part of it, and [T] the expert that gave most, by its place in `experts`; -1
            where the language model gave more than all experts together.
        """
        own = readings.take(*self.positions(memory))
        parts = log_parts(self.gate.log_shares(own), own)
        share = (parts[:, 1:].logsumexp(-1) - parts.logsumexp(-1)).exp()
        leading = torch.where(share < 0.5, -1, parts[:, 1:].argmax(-1))
        return share.numpy().astype(np.float32), leading.numpy().astype(np.int16)


def next_token(
    memory: Memory,
    fitted: FittedGate,
    text: Text,
    logits: Tensor,
    states: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """[V], the mixture's probabilities of what follows a whole text; arguments as `addends`."""
    model, remembered = addends(memory, fitted, text, logits, states)
    return model + remembered


def addends(
    memory: Memory,
    fitted: FittedGate,
    text: Text,
    logits: Tensor,
    states: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[V] each, what the language model and the memory add to the mixture's probabilities.

    Args:
        text: at least the boundary token.
        logits: [V], of the language model. Its vocabulary and the memory's may differ by ids that
            occur in no text, such as padding; such an id gets nothing from the memory.
        states: [1, D], of the language model at the last token, for a memory that needs states.
    """
    place = len(text.tokens)
    longer = Text(np.append(text.tokens, np.int32(0)), text.excluded)  # the token asked for
    evidence = memory.read(longer, place, place + 1, states)
    view = ModelView.of(logits[None], np.zeros(1, np.int64), evidence.favourite)
    readings = Readings.of(evidence, view, np.array([place]))
    inputs, experts = fitted.positions(memory)
    shares = fitted.gate.log_shares(readings.take(inputs, experts))[0].exp().numpy()
    spread = np.zeros(len(memory.experts), np.float32)
    spread[experts] = shares[1:]
    model = shares[0] * logits.double().softmax(-1).cpu().numpy()
    found, remembered = memory.mixture(text, spread, states), np.zeros(len(model))
    known = min(len(model), len(found))
    remembered[:known] = found[:known]
    return model, remembered
