"""Contract: `pytest --pyargs retro_lab.testing` tests a part of the user's own from any folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT, environment

COMMAND = [sys.executable, "-m", "pytest", "-p", "retro_lab.testing.plugin"]


@pytest.mark.parametrize(
    ("part", "code", "said"),
    [
        ("own_parts:Unordered", 1, "2 failed, 5 passed, 6 skipped"),
        ("no_such_file:Mine", 2, "there is no module no_such_file"),
    ],
)
def test_a_part_is_tested_by_its_import_path(
    part: str, code: int, said: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [*COMMAND, "--pyargs", "retro_lab.testing", f"--retriever={part}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(ROOT / "docs/examples"),
    )
    assert said in done.stdout + done.stderr
    assert done.returncode == code
