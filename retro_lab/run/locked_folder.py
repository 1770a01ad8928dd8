"""A folder that one process at a time writes, with JSON files that are checked when read."""

from __future__ import annotations

import logging
from contextlib import suppress
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
_TRACES = ("run.log", FAILURE_FILE, LOCK_FILE)
"""Files that a refused start leaves behind, in the order of removal: the lock last."""
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
                raise UserError(
                    f"another process is working on {self.path}",
                    fix="wait for it, or stop it and run the same command again: it resumes",
                ) from None
            LOG.info("waiting for another process that is working on %s", self.path)
            lock.acquire()
        return lock

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
