"""Contract: Ctrl-C, a pipe whose reader left, bytes that are no UTF-8 and a terminal without the
characters end in one line and an exit code, whatever the command is doing, imports included.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from scripts import ROOT, environment

from retro_lab import __main__
from retro_lab.config.console import ReportedInterrupt, decoded, run_command


@pytest.mark.parametrize(
    ("error", "printed"), [(KeyboardInterrupt(), "interrupted\n"), (ReportedInterrupt(), "")]
)
def test_ctrl_c_is_one_line_and_130(
    error: BaseException, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(argv: list[str]) -> int:
        raise error

    assert run_command([], command) == 130
    assert capsys.readouterr() == ("", printed)


def test_ctrl_c_while_a_command_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slow_import.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(__main__.COMMANDS, "doctor", ("slow_import:main", ""))
    assert __main__.main(["doctor"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_ctrl_c_while_a_script_is_imported(script: str, tmp_path: Path) -> None:
    """A module that interrupts stands in the place of Hydra, which both import first of all."""
    (tmp_path / "hydra.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, ROOT / script], env=environment(tmp_path), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


PRINTING = """
import sys
from retro_lab.config.console import run_command
def command(argv):
    for _ in range(100_000):
        print("caf\\u00e9")
    return 0
sys.exit(run_command([], command))
"""


def started(variables: dict[str, str], **options: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRINTING],
        env=environment(**variables), text=True, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def test_a_pipe_that_closes_is_no_traceback() -> None:
    process = started({}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_an_ascii_terminal_gets_escapes() -> None:
    out, err = started({"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE).communicate()
    assert out.splitlines()[0] == r"caf\xe9"
    assert err == ""


@pytest.mark.parametrize("command", ["generate", "export", "train", "validate"])
def test_arguments_that_are_no_utf8_are_named(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argument = os.fsdecode(b"prompt=caf\xe9")
    assert __main__.main([command, argument]) == 2
    printed = capsys.readouterr().err
    assert r"prompt=caf\udce9 is not in UTF-8" in printed
    assert "fix:" in printed


def test_no_standard_output_is_no_error() -> None:
    with redirect_stdout(None):
        assert run_command([], lambda _: 0) == 0


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_is_typed_is_read_whatever_it_is(encoding: str) -> None:
    typed = io.TextIOWrapper(
        io.BytesIO("café\n".encode() + b"caf\xe9\n"), encoding, errors="surrogateescape"
    )
    assert [decoded(line) for line in typed] == ["café\n", "caf\ufffd\n"]
