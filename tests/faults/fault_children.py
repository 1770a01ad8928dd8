"""Commands in children of this process, which imported everything once, and how a child dies.

A child is forked, runs a command as its script would, and ends by `os._exit`, so nothing of the
parent's is flushed or closed twice. What the child writes to standard output and error is kept.
"""

from __future__ import annotations

import fcntl
import os
import random
import resource
import runpy
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fault_counts import TRACEBACK
from matplotlib.figure import Figure
from pictures import draw_nothing

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0  # seconds after which a child counts as hung, on a busy machine too
_SCRIPTS = {"train": "train.py", "evaluate": "evaluate.py"}
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.move")


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: exit code, or minus the number of the signal that killed it; None if it hung.
        said: its standard output and error.
    """

    code: int | None
    said: str

    @property
    def has_traceback(self) -> bool:
        return TRACEBACK in self.said


@dataclass(frozen=True)
class Death:
    """A sudden end at one change of a file.

    Attributes:
        kind: one of `KINDS`.
        event: number of the change before which it strikes, counted from 1.
        amount: bytes that a file may still have, for `torn`; seconds to live, for `alarm`.
    """

    kind: str
    event: int
    amount: float = 0.0

    def strike(self) -> None:
        """Ends this process, now or soon."""
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.kind == "exit":
            os._exit(41)
        elif self.kind == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.kind == "alarm":
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, self.amount)
        else:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            limit_file_size(int(self.amount))


KINDS = ("kill", "term", "exit", "torn", "alarm")
"""SIGKILL; SIGTERM; os._exit; the middle of a write; any moment after a change."""


def draw_death(rng: random.Random, event: int) -> Death:
    """A death of any kind at this event."""
    kind = rng.choice(KINDS)
    amount = 2 ** rng.uniform(8, 18) if kind == "torn" else 10 ** rng.uniform(-4, -1)
    return Death(kind, event, amount)


def limit_file_size(size: int) -> None:
    """From now on no file of this process grows beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


class Child:
    """A forked process that does some work and ends with its exit code.

    What it says goes into a pipe, which no limit on files concerns.

    Args:
        work: returns the exit code, or raises as a program would.
    """

    def __init__(self, work: Callable[[], int | None]) -> None:
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2**20)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                _redirect(writing)
                code = _exit_code(work)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        os.close(writing)
        self._said = reading
        self._heard = b""
        self._handle = os.pidfd_open(self.pid)

    def wait(self, patience: float = PATIENCE) -> Ended:
        """How it ended; one that hangs is killed."""
        over, _, _ = select.select([self._handle], [], [], patience)
        if not over:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self._handle)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status) if over else None
        with os.fdopen(self._said, "rb") as said:
            return Ended(code, (self._heard + said.read()).decode(errors="replace"))

    def hear(self, words: str, patience: float) -> str:
        """What it said by the time it had said a line with these words, or had ended."""
        stop = time.monotonic() + patience
        while words.encode() not in self._heard or not self._heard.endswith(b"\n"):
            left = max(stop - time.monotonic(), 0)
            if not select.select([self._said], [], [], left)[0]:
                break
            data = os.read(self._said, 65536)
            if not data:
                break
            self._heard += data
        return self._heard.decode(errors="replace")

    def is_over(self, patience: float) -> bool:
        """Whether it ends within so many seconds; it is left alone if not."""
        return bool(select.select([self._handle], [], [], patience)[0])

    def wait_stopped(self) -> bool:
        """Waits until it stops itself (True) or is ready to be waited for."""
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        return info is not None and info.si_code == os.CLD_STOPPED

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def command(
    argv: list[str], folder: Path, *, before: Callable[[], None] | None = None, scratch: Path
) -> Callable[[], int | None]:
    """The work of a child: a command typed in `folder`.

    Args:
        argv: name of the command, then its arguments.
        before: called just before the command starts.
        scratch: temporary folder of the child.
    """

    def work() -> int | None:
        os.chdir(folder)
        scratch.mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = str(scratch)
        tempfile.tempdir = None
        Figure.savefig = draw_nothing  # type: ignore[method-assign]
        name, *arguments = argv
        if before is not None:
            before()
        if name in _SCRIPTS:
            sys.argv = [str(ROOT / _SCRIPTS[name]), *arguments]
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            sys.argv = ["retro_lab", name, *arguments]
            # by its path: pytest rewrites the package's modules, and runpy cannot run such a one
            runpy.run_path(str(ROOT / "retro_lab" / "__main__.py"), run_name="__main__")
        return 0

    return work


def counting(roots: list[Path], at: Callable[[int, str], None]) -> Callable[[], None]:
    """What makes `at` hear of every change of a file below `roots`, numbered, just before it.

    A change is a file that is opened for writing, renamed, moved or removed, and a new folder.
    """
    places = tuple(f"{root}{os.sep}" for root in roots)

    def begin() -> None:
        seen = 0

        def hear(event: str, arguments: tuple) -> None:
            nonlocal seen
            if event == "open":
                if not isinstance(arguments[2], int) or not arguments[2] & (
                    os.O_WRONLY | os.O_RDWR
                ):
                    return
            elif event not in _CHANGES:
                return
            of_ours = [path for path in _paths(event, arguments) if path.startswith(places)]
            if of_ours:
                seen += 1
                at(seen, of_ours[-1])

        sys.addaudithook(hear)

    return begin


def dying(roots: list[Path], death: Death, note: Path) -> Callable[[], None]:
    """What makes a process die at a change below `roots`; `note` names the file of the change."""

    def strike(number: int, path: str) -> None:
        if number == death.event:
            descriptor = os.open(note, os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, path.encode())
            os.close(descriptor)
            death.strike()

    return counting(roots, strike)


def _paths(event: str, arguments: tuple) -> list[str]:
    """Absolute paths that an audit event is about; those of `rmtree` are relative to a handle."""
    count = 2 if event in ("os.rename", "shutil.move") else 1
    named = [a for a in arguments[:count] if isinstance(a, (str, bytes, os.PathLike))]
    handle = arguments[-1] if event in ("os.remove", "os.rmdir") else -1
    folder = Path(f"/proc/self/fd/{handle}").readlink() if handle >= 0 else Path.cwd()
    return [os.path.normpath(folder / os.fsdecode(path)) for path in named]


def _redirect(descriptor: int) -> None:
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def _exit_code(work: Callable[[], int | None]) -> int:
    """As the interpreter would end: a traceback and 1 for an exception that nobody took."""
    try:
        return work() or 0
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
