"""Trains the small run on so many CPU processes: `python ddp_run.py FOLDER PROCESSES`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data"), str(HERE.parents[1])]

from small_run import small_config, small_fit, small_model  # noqa: E402


def main() -> None:
    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    strategy = "ddp" if processes > 1 else "auto"
    config = small_config(devices=processes, strategy=strategy)
    small_fit(folder, config, model=small_model(dropout=0.0))


if __name__ == "__main__":
    main()
