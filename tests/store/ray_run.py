"""Squares ten numbers by Ray's workers, and says whether a cluster is left: `ray_run.py FOLDER`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np

from retro_lab.config.errors import UserError
from retro_lab.config.schema import EngineKind, PrepareConfig
from retro_lab.store import Workspace, build_engine


def squares(start: int, stop: int) -> dict[str, np.ndarray | float]:
    return {"squares": np.arange(start, stop) ** 2}


def main() -> None:
    engine = build_engine(PrepareConfig(engine=EngineKind.ray, workers=1))
    try:
        space = Workspace(Path(sys.argv[1]), engine)
        space.blocks(10, 5, squares, what="squaring", unit="items", anywhere=True)
    except UserError as error:
        print(error)
    print("connected" if import_module("ray").is_initialized() else "not connected")


if __name__ == "__main__":
    main()
