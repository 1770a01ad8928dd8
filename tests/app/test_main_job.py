"""Contract: the README's main job runs from an empty folder, and its gain is no accident of OFF."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.report.verdict import verdict

TRAIN = Path(__file__).parents[2] / "train.py"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_default_run_shows_a_gain_and_whether_it_is_leakage(tmp_path: Path) -> None:
    command = [sys.executable, str(TRAIN)]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    (folder,) = (tmp_path / "runs").glob("tiny-bm25-*")
    results = Results.load(folder / "results.json")
    scores = results.metrics["test"]
    assert scores["off"] == scores["baseline"]
    found = verdict(results.leakage)
    assert found.gain
    assert found.gain_without_leakage is not None
    assert "plain" in scores
    assert (folder / "leakage.png").is_file()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert "is finished already" in again.stderr
