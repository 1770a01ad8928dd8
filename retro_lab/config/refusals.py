"""System errors as messages: full disk, missing permission, too many files, no memory.

Libraries word these errors differently, often without an error number or a path. They are found
anywhere in an exception's chain and become one message with a fix.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError, chain, first_line

_ELSEWHERE = (
    "runs_dir=... and store.dir=... put what train.py writes elsewhere, and a copy of a run "
    "elsewhere can be evaluated"
)
_ROOM = f"make room there; the same command goes on from here. Or: {_ELSEWHERE}"
_PERMISSION = f"make room and permission there; or {_ELSEWHERE}"
_SIZE = (
    "raise the limit (ulimit -f unlimited), or take a file system that holds files of this size; "
    f"{_ELSEWHERE}"
)
_FILES = (
    "close other programs or raise the limit (ulimit -n 4096); the same command goes on from here"
)
_DEVICE = (
    "the disk or the network behind it failed, which says nothing about the file itself: look at "
    "the system's log (dmesg) and run the same command again"
)
_MEMORY = (
    "close other programs, or make batches smaller (schedule.batch_size with trainer.accumulate, "
    "eval.batch_size); no file was harmed, and the same command goes on from here"
)
_FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _PERMISSION),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG), _PERMISSION),
    errno.EFBIG: _SIZE,
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _FILES),
    errno.EIO: _DEVICE,
}
# Errors that are unambiguous anywhere in the chain. The others (such as a folder that exists) count
# only as the exception itself and with a path, since they may be a bug of ours.
_UNMISTAKABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE),
    errno.EIO,
)
_SHORT_WRITE = re.compile(r"requested and \d+ written")  # numpy, which drops the error number
# A file of a stage in the store's layout: <stage>/<key>/...
_STAGE_FILE = re.compile(r"([^\s'\"]*/[a-z_]+/[0-9a-f]{16})/")
_NO_MEMORY = re.compile(r"(?:can't|[Cc]annot|[Uu]nable to) allocate|out of memory", re.IGNORECASE)


def system_error(error: BaseException) -> OSError | None:
    """The system error behind an exception, with its path if known; else None.

    None for a `UserError`, which is already a message.
    """
    found = None
    for link in chain(error):
        if isinstance(link, UserError):
            return None
        counts = _FIXES if link is error else _UNMISTAKABLE
        refused = link if isinstance(link, OSError) and link.errno in counts else _worded(link)
        if refused is not None and refused.filename is not None:
            return refused
        found = found or refused
    return found


def _worded(error: BaseException) -> OSError | None:
    """The system error that an exception names only in its text."""
    text = str(error)
    for code in _UNMISTAKABLE:
        if os.strerror(code) in text:
            return OSError(code, os.strerror(code))
    if isinstance(error, OSError) and _SHORT_WRITE.search(text):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


def is_short_of_memory(error: BaseException) -> bool:
    """Whether memory ran out in Python, in torch (CPU or GPU) or in a memory map."""
    return any(
        isinstance(link, MemoryError)
        or (isinstance(link, OSError) and link.errno == errno.ENOMEM)
        or (isinstance(link, (RuntimeError, OSError)) and _NO_MEMORY.search(str(link)))
        for link in chain(error)
    )


def is_refused(error: BaseException) -> bool:
    """Whether a system error or lack of memory is the cause, so the data itself may be intact."""
    return system_error(error) is not None or is_short_of_memory(error)


def refusal(error: BaseException, place: Path | str | None = None) -> UserError | None:
    """The message for a system error, a vanished stage or lack of memory; else None.

    Args:
        place: path to name if the exception has none.
    """
    refused = system_error(error)
    if refused is not None:
        where = refused.filename if refused.filename is not None else place
        code = refused.errno or 0
        if refused.filename is None and code not in _UNMISTAKABLE:
            return None
        words = os.strerror(code)
        message = f"{os.fsdecode(str(where))}: {words}" if where is not None else first_line(error)
        return UserError(message, fix=_FIXES[code])
    gone = _vanished_stage(error)
    if gone is not None:
        return UserError(
            f"{gone} is gone: it was removed while this command was using it",
            fix="run the same command again: it is built again, and the rest goes on from here",
        )
    if is_short_of_memory(error):
        return UserError(f"this machine's memory is not enough: {first_line(error)}", fix=_MEMORY)
    return None


def _vanished_stage(error: BaseException) -> str | None:
    """The stage folder that an exception misses a file of, if the whole folder is gone."""
    for link in chain(error):
        match = _STAGE_FILE.search(str(link))
        if match and os.strerror(errno.ENOENT) in str(link) and not Path(match[1]).exists():
            return match[1]
    return None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Adds `path` to a system error in the block that names no path."""
    try:
        yield
    except Exception as error:
        refused = system_error(error)
        if refused is None or refused.filename is not None:
            raise
        raise with_path(refused, path) from error


def with_path(refused: OSError, path: Path) -> OSError:
    """The same system error with `path`."""
    code = refused.errno or 0
    return OSError(code, os.strerror(code), str(path))
