"""A folder that one process at a time writes, with JSON files that are checked when read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from retro_lab.config.errors import UserError
from retro_lab.store.checksums import check_recorded, recorded

LOG = logging.getLogger("retro_lab")
LOCK_FILE = ".lock"
FAILURE_FILE = "failure.json"
_START_FILE = ".start"  # what the process that holds the lock was started for
_TRACES = ("run.log", FAILURE_FILE, _START_FILE, LOCK_FILE)
"""Files that a refused start leaves behind, in the order of removal: the lock last."""
_NOTED = 1.0
"""Seconds in which whoever took the lock has noted what it was started for."""
_PUT_BACK = (
    "put back a copy; or remove it and run the train.py command again, which goes on from the "
    "last checkpoint"
)


@dataclass(frozen=True)
class LockedFolder:
    """A folder of records under a lock.

    Attributes:
        path: the folder, as a user would type it.
        is_rank_zero: whether this process locks and writes the folder; the other ranks of
            distributed training only read it.
    """

    path: Path
    is_rank_zero: bool = True

    def acquire(self, wait: bool) -> FileLock:
        """Acquires the run's lock.

        Args:
            wait: until another process releases the lock.

        Raises:
            UserError: if another process holds the lock and `wait` is False.
        """
        lock = FileLock(self.path / LOCK_FILE)
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.is_rank_zero:
            return lock
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise self._in_use() from None
            self._wait_for(lock)
        return lock

    @contextmanager
    def started(self, purpose: str, wait: bool) -> Iterator[None]:
        """A context with the run's lock, for one start of a command.

        Args:
            purpose: equal for starts of the same command.
            wait: for a process that was started for another purpose, or whose purpose is unknown.

        Raises:
            UserError: another process was started for the same purpose, or `wait` is False and
                there is another process.
        """
        lock = self.acquire(wait=False) if not wait else self._acquired_after_others(purpose)
        note = self.path / _START_FILE
        try:
            if self.is_rank_zero:
                note.write_text(purpose)
            yield
        finally:
            if self.is_rank_zero:
                note.unlink(missing_ok=True)
            lock.release()

    def _acquired_after_others(self, purpose: str) -> FileLock:
        lock = FileLock(self.path / LOCK_FILE)
        self.path.mkdir(parents=True, exist_ok=True)
        for patience in (0, _NOTED):
            try:
                lock.acquire(timeout=patience)
            except Timeout:
                if self._purpose() == purpose:
                    raise self._in_use() from None
            else:
                return lock
        self._wait_for(lock)
        return lock

    def _purpose(self) -> str | None:
        """What the process that holds the lock was started for; None if it has not noted that."""
        try:
            return (self.path / _START_FILE).read_text()
        except OSError:
            return None

    def _in_use(self) -> UserError:
        return UserError(
            f"another process is working on {self.path}",
            fix="wait for it, or stop it and run the same command again: it resumes",
        )

    def _wait_for(self, lock: FileLock) -> None:
        LOG.info("waiting for another process that is working on %s", self.path)
        lock.acquire()

    def discard_untouched(self) -> None:
        """Removes the directory if it holds only the log of a refused start.

        Removal needs the run's lock, so a directory that another process uses is kept.
        """
        if not self._is_untouched():
            return
        lock = FileLock(self.path / LOCK_FILE)
        with suppress(OSError, Timeout), lock.acquire(timeout=0):
            if self._is_untouched():
                for trace in _TRACES:
                    (self.path / trace).unlink(missing_ok=True)
                self.path.rmdir()

    def _is_untouched(self) -> bool:
        return {path.name for path in self.path.iterdir()} <= set(_TRACES)

    def read(self, name: str, kind: Any) -> Any:
        """The content of a file by `record`, checked to be of type `kind`; None if missing."""
        path = self.path / name
        if not path.is_file():
            return None
        from retro_lab.evaluation.records.record_file import decode

        check_recorded(path, _PUT_BACK)
        try:
            return decode(kind, orjson.loads(path.read_bytes()), "")
        except ValueError as error:
            raise self.damaged(name, str(error)) from error

    def damaged(self, name: str, why: str) -> UserError:
        return UserError(f"{self.path / name} is damaged: {why}", fix=_PUT_BACK)

    def record(self, name: str, data: Any) -> None:
        """Writes plain data as JSON into the file `name`, with its checksum; on rank 0 only."""
        if not self.is_rank_zero:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with recorded(self.path / name) as temporary:
            temporary.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2) + b"\n")
