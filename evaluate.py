"""Evaluates a finished run: python evaluate.py run=runs/... eval=leakage; --help says more."""

from __future__ import annotations

import sys


def main() -> int:
    from retro_lab.config.console import run_command

    def command(argv: list[str]) -> int:
        from retro_lab.commands.evaluate import main as evaluate

        return evaluate(argv)

    return run_command(sys.argv[1:], command)


if __name__ == "__main__":
    sys.exit(main())
