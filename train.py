"""Trains and evaluates one run, or with -m one for each point of a sweep; --help says more."""

from __future__ import annotations

import sys


def main() -> int:
    from retro_lab.config.console import run_command

    def command(argv: list[str]) -> int:
        from retro_lab.commands.train import main as train

        return train(argv)

    return run_command(sys.argv[1:], command)


if __name__ == "__main__":
    sys.exit(main())
