"""The stage `memory_gate`: a gate over some families of experts, fitted for one language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retro_lab.store import Artifact, Stage, Workspace

from .fitting import fit
from .memory import FittedGate, Memory
from .readings import Readings, in_families

VERSION = 1


@dataclass(frozen=True)
class GateChoice:
    """Which gate to fit.

    Attributes:
        families: the experts that it mixes.
        random: whether the experts read the contexts of other documents, as a control.
    """

    families: tuple[str, ...]
    random: bool = False


def gate_stage(
    choice: GateChoice,
    fields: Mapping[str, Any],
    parents: Mapping[str, Artifact | Stage],
    weights: str,
) -> Stage:
    """The stage of a fitted gate.

    Args:
        fields: settings behind the readings.
        parents: data that the readings come from.
        weights: digest of the language model.
    """
    return Stage(
        "memory_gate", VERSION, {**asdict(choice), **fields}, parents, {"weights": weights}
    )


def build_gate(
    choice: GateChoice,
    memory: Memory,
    training: Readings,
    validation: Readings,
    seed: int,
    workspace: Workspace,
) -> Mapping[str, Any]:
    """Fits the gate and writes it.

    Args:
        training, validation: readings of the whole memory, of a sample of each split.

    Returns:
        tokens, the number of training tokens; alone and mixed, the mean nats a token on the
            validation sample.
    """
    gate, losses = fit_gate(choice.families, memory, training, validation, seed)
    gate.save(workspace.path)
    return {
        "tokens": len(training.nats),
        "alone": float(validation.nats.mean()),
        "mixed": min(losses),
    }


def fit_gate(
    families: Sequence[str],
    memory: Memory,
    training: Readings,
    validation: Readings,
    seed: int,
) -> tuple[FittedGate, list[float]]:
    """Fits a gate over some families of experts; see `Fit` for the losses on validation."""
    inputs = in_families(memory.inputs, families)
    experts = in_families(memory.experts, families)
    fitted = fit(training.take(inputs, experts), validation.take(inputs, experts), seed)
    names = [memory.experts[i] for i in experts], [memory.inputs[i] for i in inputs]
    return FittedGate(fitted.gate, *map(tuple, names)), fitted.nats
