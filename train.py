"""Trains and evaluates one run, or with -m one for each point of a sweep; --help says more."""

from __future__ import annotations

import sys


def main() -> int:
    from retro_lab.app.train import main as train

    return train(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
