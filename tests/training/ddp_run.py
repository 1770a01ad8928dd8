"""Trains the small run on CPU processes: `ddp_run.py FOLDER PROCESSES INTERRUPT ACCUMULATE`.

INTERRUPT is the step in which the first process gets Ctrl-C; 0 is never. ACCUMULATE is the number
of micro-batches a step.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from small_run import small_config, small_fit, small_model
from trouble import Trouble


def main() -> None:
    folder, processes, interrupt = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    strategy = "ddp" if processes > 1 else "auto"
    config = small_config(devices=processes, strategy=strategy, accumulate=int(sys.argv[4]))
    model = small_model(dropout=0.0)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        model.__class__, model.after = Trouble, interrupt
    small_fit(folder, config, model=model)


if __name__ == "__main__":
    main()
