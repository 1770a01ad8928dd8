"""Contract: a checkpoint is written beside its target, so that the one before stays until it is
whole, on whatever device; it is read by the run that wrote it, as it was written, or it is named;
what the machine refuses is never called damage, and no advice discards what was trained.
"""

from __future__ import annotations

import errno
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from devices import other_device
from dying import DEAD, die_at, in_a_child
from small_run import small_config, small_fit

from retro_lab.config.errors import UserError
from retro_lab.config.refusals import refusal
from retro_lab.store.checksums import CHECKSUMS
from retro_lab.training.checkpoint import (
    BEST,
    LAST,
    RecordedCheckpointIO,
    checkpoint_folder,
    read_checkpoint,
)

MINE = {"run_key": "a" * 64, "seed": 1}


def content(step: int, size: int = 1000) -> dict:
    return {"state_dict": {"weight": torch.full((size,), float(step))}, "global_step": step}


def save(path: Path, step: int, size: int = 1000) -> None:
    RecordedCheckpointIO(MINE).save_checkpoint(content(step, size), path)


def step_of(path: Path) -> int:
    checkpoint = read_checkpoint(path, MINE)
    assert (checkpoint["state_dict"]["weight"] == checkpoint["global_step"]).all()
    return checkpoint["global_step"]


@pytest.fixture(params=["the same device", "another device"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """On the device of temporary files, or on another one."""
    if request.param == "the same device":
        yield tmp_path / "checkpoints"
        return
    made = other_device(Path(tempfile.gettempdir()))
    if made is None:
        pytest.skip("there is no other device")
    yield made / "checkpoints"
    shutil.rmtree(made)


def test_a_death_at_any_moment_leaves_a_whole_checkpoint(folder: Path, tmp_path: Path) -> None:
    found, work = [], folder / "work"
    for number in range(1, 100):
        shutil.rmtree(work, ignore_errors=True)
        save(work / LAST, 1)

        def replace(number: int = number) -> None:
            die_at(number, work)
            save(work / LAST, 2)

        code = in_a_child(replace)
        found.append(step_of(work / LAST))
        if code != DEAD:
            break
    assert code == 0
    assert found == sorted(found)
    assert set(found) == {1, 2}


def test_too_large_a_checkpoint_names_its_path_and_leaves_the_one_before(folder: Path) -> None:
    save(folder / LAST, 1)

    def grow() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with pytest.raises(OSError) as caught:
            save(folder / LAST, 2, size=100_000)
        assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(folder / LAST))

    assert in_a_child(grow) == 0
    assert step_of(folder / LAST) == 1
    assert {path.name for path in folder.iterdir()} == {LAST, CHECKSUMS}


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system")
def test_a_full_disk_names_the_path_and_leaves_the_one_before(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount")
    try:
        save(place / LAST, 1)
        with pytest.raises(OSError) as caught:
            save(place / LAST, 2, size=100_000)
        message = str(refusal(caught.value))
        assert message.startswith(f"{place / LAST}: No space left on device")
        assert step_of(place / LAST) == 1
        save(place / LAST, 3)
        assert step_of(place / LAST) == 3
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_every_flipped_bit_is_named_and_nothing_is_discarded(tmp_path: Path) -> None:
    path = tmp_path / LAST
    save(path, 1)
    written, rng = path.read_bytes(), random.Random(0)
    for _ in range(100):
        flipped = bytearray(written)
        flipped[rng.randrange(len(written))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"last\.ckpt is damaged") as caught:
            read_checkpoint(path, MINE)
        assert "resume=null" not in str(caught.value.fix)
    path.write_bytes(written)
    assert step_of(path) == 1


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    """Also with the record that belongs to it."""
    save(tmp_path / LAST, 1)
    with pytest.raises(UserError, match="another configuration: seed was 1, is 2"):
        read_checkpoint(tmp_path / LAST, MINE | {"seed": 2})
    with pytest.raises(UserError, match="run_key was a") as caught:
        read_checkpoint(tmp_path / LAST, MINE | {"run_key": "b" * 64})
    assert "resume=null" not in str(caught.value.fix)


@pytest.mark.parametrize("damage", [b"", b"no checkpoint at all"])
def test_a_damaged_checkpoint_without_a_record_is_named(tmp_path: Path, damage: bytes) -> None:
    """As of runs from before there were records."""
    (tmp_path / LAST).write_bytes(damage)
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        read_checkpoint(tmp_path / LAST)


def test_a_checkpoint_without_a_record_is_read(tmp_path: Path) -> None:
    torch.save(content(7), tmp_path / LAST)
    assert step_of(tmp_path / LAST) == 7


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        OSError(errno.EIO, "Input/output error", "last.ckpt"),
        OSError(errno.EMFILE, "Too many open files", "last.ckpt"),
        PermissionError(errno.EACCES, "Permission denied", "last.ckpt"),
    ],
    ids=repr,
)
def test_what_the_machine_refuses_is_not_damage(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*arguments: object, **settings: object) -> None:
        raise error

    save(tmp_path / LAST, 1)
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(type(error)) as caught:
        read_checkpoint(tmp_path / LAST, MINE)
    said = str(refusal(caught.value))
    assert "damage" not in said
    assert "resume=null" not in said


def test_training_records_both_of_its_checkpoints(tmp_path: Path) -> None:
    small_fit(tmp_path, small_config(), trained_as=MINE)
    folder = checkpoint_folder(tmp_path)
    for name in (LAST, BEST):
        assert read_checkpoint(folder / name, MINE)["trained_as"] == MINE
        flipped = bytearray((folder / name).read_bytes())
        flipped[len(flipped) // 2] ^= 1
        (folder / name).write_bytes(flipped)
        with pytest.raises(UserError, match="is damaged"):
            read_checkpoint(folder / name, MINE)
