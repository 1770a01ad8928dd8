"""Contract: one training forward pass can be read in seven files that name no machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from retro_lab import nn

ROOM = Path(nn.__file__).parent
PASS = ("retro", "config", "layers", "positions", "attention", "chunks", "pointer")
MACHINES = re.compile(r"fused|native|kernel|cache|device|\bcpu|cuda", re.IGNORECASE)


def test_a_forward_pass_is_at_most_1400_lines() -> None:
    lines = {name: len((ROOM / f"{name}.py").read_text().splitlines()) for name in PASS}
    assert sum(lines.values()) <= 1400, lines
    assert max(lines.values()) <= 450


@pytest.mark.parametrize("file", sorted(ROOM.glob("*.py")), ids=lambda path: path.stem)
def test_no_file_of_the_model_names_a_machine(file: Path) -> None:
    assert MACHINES.findall(file.read_text()) == []


def test_the_forward_pass_imports_nothing_else_of_the_room() -> None:
    """But for how weights start, and which of them are the plain model's."""
    imported = {
        name
        for file in PASS
        for name in re.findall(r"^from \.(\w+) import", (ROOM / f"{file}.py").read_text(), re.M)
    }
    assert imported - set(PASS) == {"initialise", "retrofit"}
