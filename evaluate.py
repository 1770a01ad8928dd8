"""Evaluates a finished run: python evaluate.py run=runs/... eval=leakage; --help says more."""

from __future__ import annotations

import sys


def main() -> int:
    from retro_lab.app.evaluate import main as evaluate

    return evaluate(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
