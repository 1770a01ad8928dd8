"""Contract: what the machine refuses is one message with the path that was being written, however
a library words it; what is a bug stays one.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from pathlib import Path

import pytest
from dying import in_a_child

from retro_lab.config.console import RunLogHandler
from retro_lab.config.errors import UserError
from retro_lab.config.files import replacing
from retro_lab.config.refusals import is_refused, refusal, writing

FULL = os.strerror(errno.ENOSPC)


def with_context(error: Exception, context: Exception) -> Exception:
    error.__context__ = context
    return error


REFUSED = {
    "an error of the system": OSError(errno.ENOSPC, FULL, "runs/x"),
    "without its path": OSError(errno.ENOSPC, FULL),
    "quota": OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    "file size": OSError(errno.EFBIG, os.strerror(errno.EFBIG)),
    "open files": OSError(errno.EMFILE, os.strerror(errno.EMFILE), "runs/x"),
    "open files everywhere": OSError(errno.ENFILE, os.strerror(errno.ENFILE)),
    "read-only": OSError(errno.EROFS, os.strerror(errno.EROFS), "runs/x"),
    "a failing disk": OSError(errno.EIO, os.strerror(errno.EIO), "runs/x"),
    "safetensors": ValueError(f"Error while serializing: I/O error: {FULL} (os error 28)"),
    "faiss": RuntimeError(f"write error in x.faiss: 90067 != 1280000 ({FULL})"),
    "pyarrow": OSError(f"[Errno 28] Error writing bytes to file. Detail: [errno 28] {FULL}"),
    "numpy": OSError("1000 requested and 20 written"),
    "torch": with_context(
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"),
        OSError(errno.ENOSPC, FULL),
    ),
    "shared memory": RuntimeError("unable to open shared memory object: Too many open files (24)"),
}


@pytest.mark.parametrize("error", REFUSED.values(), ids=REFUSED)
def test_it_is_one_message_with_a_path_and_a_way_out(error: Exception) -> None:
    found = refusal(error, "runs/x")
    assert found is not None
    assert found.message.startswith("runs/x: ")
    assert "\n" not in found.message
    assert found.fix
    assert is_refused(error)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("unable to mmap 13 bytes from file <x>: Cannot allocate memory (12)"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
    ids=str,
)
def test_memory_that_runs_out_harms_no_file(error: Exception) -> None:
    found = refusal(error)
    assert found is not None
    assert "memory is not enough" in found.message
    assert "no file was harmed" in str(found.fix)
    assert is_refused(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a bug"),
        FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)),
        with_context(ValueError("a bug"), FileExistsError(errno.EEXIST, "exists", "x")),
        UserError("a message of its own"),
    ],
    ids=repr,
)
def test_a_bug_stays_one(error: Exception) -> None:
    assert refusal(error, "runs/x") is None


def test_stored_data_that_was_removed_under_a_command_is_named(tmp_path: Path) -> None:
    stage = tmp_path / "corpus" / "0123456789abcdef"
    error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(stage / "ids.json"))
    found = refusal(error)
    assert found is not None
    assert found.message.startswith(f"{stage} is gone")
    stage.mkdir(parents=True)
    assert refusal(error) is None  # a file that a stage should have, and hasn't


def limited(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_file_that_grows_too_large_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("before")

    def write() -> None:
        limited(1000)
        with pytest.raises(OSError) as caught, replacing(path) as temporary:
            temporary.write_bytes(b"x" * 5000)
        assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))

    assert in_a_child(write) == 0
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["results.json"]


def test_an_append_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"

    def append() -> None:
        limited(1000)
        with pytest.raises(OSError) as caught, writing(path), path.open("ab") as file:
            file.write(b"x" * 5000)
        assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))

    assert in_a_child(append) == 0


def test_a_log_that_cannot_be_written_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    log = logging.getLogger("a run that has no room")
    log.setLevel(logging.INFO)
    log.propagate = False  # handlers that other tests left at the root
    handler = RunLogHandler(full)
    log.addHandler(handler)
    for number in range(3):
        log.info("message %d", number)
    log.removeHandler(handler)
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {full}: ")
    assert said.count(FULL) == said.count("\n") == 1
