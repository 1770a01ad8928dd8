"""Contract: a file is read as it was written or it is named, whenever the process that wrote it
died; files without a record are read as they are.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from dying import DEAD, die_at, in_a_child

from retro_lab.config.errors import UserError
from retro_lab.store.checksums import CHECKSUMS, check_recorded, recorded

FIX = "put back a copy"


def write(path: Path, text: str) -> None:
    with recorded(path) as temporary:
        temporary.write_text(text)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write(tmp_path / "a", text)
        check_recorded(tmp_path / "a", FIX)
        assert (tmp_path / "a").read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {"a", CHECKSUMS}


def test_every_flipped_bit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, "some text of a run")
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(UserError, match="a is damaged") as caught:
            check_recorded(path, FIX)
        assert caught.value.fix == FIX


def test_a_damaged_record_is_named_and_never_trusted(tmp_path: Path) -> None:
    write(tmp_path / "a", "text")
    record = tmp_path / CHECKSUMS
    content, rng = record.read_bytes(), random.Random(0)
    for _ in range(50):
        place = rng.randrange(len(content) - 1)  # the last is the newline
        record.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(UserError, match=f"{CHECKSUMS} is damaged|a is damaged"):
            check_recorded(tmp_path / "a", FIX)
    record.unlink()
    check_recorded(tmp_path / "a", FIX)


def test_a_death_at_any_moment_leaves_a_file_that_fits(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    write(before / "a", "old")
    write(before / "b", "other")
    found = []
    for number in range(1, 100):
        folder = tmp_path / str(number)
        shutil.copytree(before, folder)

        def replaced(folder: Path = folder, number: int = number) -> None:
            die_at(number, folder)
            write(folder / "a", "new")

        code = in_a_child(replaced)
        check_recorded(folder / "a", FIX)
        check_recorded(folder / "b", FIX)
        found.append((folder / "a").read_text())
        write(folder / "a", "again")
        check_recorded(folder / "a", FIX)
        if code != DEAD:
            break
    assert code == 0
    assert found == sorted(found, reverse=True)  # old up to one moment, new from there
    assert set(found) == {"old", "new"}


def test_what_fails_leaves_the_file_before(tmp_path: Path) -> None:
    write(tmp_path / "a", "old")

    def fail() -> None:
        with recorded(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    check_recorded(tmp_path / "a", FIX)
    assert (tmp_path / "a").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"a", CHECKSUMS}
