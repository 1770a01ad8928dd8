"""Two processes that disagree, the second of them started by the first: `agreement_run.py FOLDER`.

Each writes what it was told into the folder, under its number.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from retro_lab.config.schema import TrainerConfig
from retro_lab.training.agreement import broadcast_decision


def main() -> None:
    config = TrainerConfig(name="ddp", accelerator="cpu", devices=2, strategy="ddp")
    number = os.environ.get("LOCAL_RANK", "0")
    told = [broadcast_decision(config, number == first) for first in ("0", "1")]
    (Path(sys.argv[1]) / number).write_text(str(told))


if __name__ == "__main__":
    main()
