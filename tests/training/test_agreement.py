"""Contract: processes that train together go by what the first of them says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripts import environment

from retro_lab.config.schema import TrainerConfig
from retro_lab.training.agreement import broadcast_decision


@pytest.mark.parametrize("said", [True, False])
def test_a_process_alone_goes_by_itself(said: bool) -> None:
    assert broadcast_decision(TrainerConfig(name="cpu"), said) is said


@pytest.mark.slow
def test_the_second_process_is_told_what_the_first_says(tmp_path: Path) -> None:
    script = Path(__file__).with_name("agreement_run.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=environment(MASTER_ADDR="127.0.0.1"),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert told == {"0": "[True, False]", "1": "[True, False]"}
