"""Plots of one pixel: drawing them takes half of an evaluation's time."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_PIXEL = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)

draw = Figure.savefig
"""Saves a figure as it is."""


def draw_nothing(figure: Figure, target: Any, **options: Any) -> None:
    """Writes a file of one pixel in the place of a figure's picture, as `Figure.savefig` would."""
    if hasattr(target, "write"):
        target.write(_PIXEL)
    else:
        Path(target).write_bytes(_PIXEL)
