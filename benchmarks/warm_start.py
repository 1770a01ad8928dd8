"""With everything cached: seconds of imports, and from there to the end of the first training step.

Takes what `train.py` takes; trains a run from scratch without a baseline, so that no other training
comes first. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

BEGUN = time.perf_counter()

from retro_lab.config.compose import load_config  # noqa: E402
from retro_lab.config.fingerprints import canonical  # noqa: E402
from retro_lab.config.rules import check  # noqa: E402
from retro_lab.run.experiment import run_experiment  # noqa: E402
from retro_lab.run.timing import Stopwatch  # noqa: E402
from retro_lab.training.module import RetroModule  # noqa: E402


class _FirstStepDone(Exception):
    pass


def _stop(*_: Any) -> NoReturn:
    raise _FirstStepDone


def main() -> None:
    imported = time.perf_counter()
    RetroModule.on_train_batch_end = _stop
    with TemporaryDirectory() as runs:
        own = ["recipe=scratch", "baseline=null", "logger=none", f"runs_dir={Path(runs)}"]
        config = load_config([*sys.argv[1:], *own])
        check(config)
        try:
            run_experiment(canonical(config), Stopwatch())
        except _FirstStepDone:
            done = time.perf_counter()
    print(
        json.dumps(
            {
                "imports_s": round(imported - BEGUN, 2),
                "to_first_step_s": round(done - imported, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
