"""The curves bpb(alpha) that figures draw."""

from __future__ import annotations

from dataclasses import dataclass

from ..measure.conditions import compared_with, in_order, label, reads_memory
from ..measure.leakage import CurvePoint, Difference, Leakage

ONE_CURVE = "baseline = backbone"
"""Label of baseline and backbone together, where they are one: the backbone was frozen."""


@dataclass(frozen=True)
class Curve:
    """The curve of a condition.

    Attributes:
        name: the condition.
        label: its display name.
        points: one for each alpha.
    """

    name: str
    label: str
    points: list[CurvePoint]


def drawn_curves(leakage: Leakage) -> list[Curve]:
    """Curves in display order, without those of a memory; a backbone equal to the baseline is not
    drawn twice.
    """
    names = [name for name in in_order(leakage.curves) if not reads_memory(name)]
    one = {"baseline", "off"} <= set(names) and leakage.curves["off"] == leakage.curves["baseline"]
    return [
        Curve(name, ONE_CURVE if one and name == "baseline" else label(name), leakage.curves[name])
        for name in names
        if not (one and name == "off")
    ]


def drawn_differences(leakage: Leakage) -> tuple[str, list[Difference]]:
    """The condition that RETRO[ON] is compared with, and the measured differences from it."""
    other = compared_with(leakage.curves) or "baseline"
    found = [d for d in leakage.differences if (d.a, d.b) == ("on", other)]
    return other, [d for d in found if d.delta_bpb is not None]
