"""Contract: blocks resume after any stop, and the merged bytes never depend on how they came."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dying import DEAD, in_a_child, on_events
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts import environment

from retro_lab.store import ArtifactStore, Stage, Workspace

STAGE = Stage("embeddings", 1, {}, {})


def produce(start: int, stop: int) -> dict[str, np.ndarray]:
    """A row an item of `vectors`, and of `runs` as many rows as the item's number modulo 3."""
    items = np.arange(start, stop)
    vectors = (items[:, None] * np.ones(3)).astype(np.float16)
    return {"vectors": vectors, "runs": np.repeat(items, items % 3).astype(np.int32)}


def build(path: Path, total: int, size: int, function=produce) -> dict[str, bytes]:
    Workspace(path).blocks(total, size, function, what="embedding", unit="chunks")
    return {file.name: file.read_bytes() for file in path.glob("*.npy")}


class Stopping:
    """`produce`, until it stops at one block; it remembers what it was asked for."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.starts: list[int] = []

    def __call__(self, start: int, stop: int) -> dict[str, np.ndarray]:
        if start == self.stop_at:
            raise KeyboardInterrupt
        self.starts.append(start)
        return produce(start, stop)


def interrupted(path: Path) -> None:
    """Blocks 0-4 and 4-8 of 10 are finished."""
    with pytest.raises(KeyboardInterrupt):
        build(path, 10, 4, Stopping(8))


@given(st.integers(0, 40), st.integers(1, 45), st.integers(1, 45))
@settings(max_examples=25, deadline=None)
def test_bytes_do_not_depend_on_the_block_size(total: int, size: int, other_size: int):
    with tempfile.TemporaryDirectory() as folder:
        files = build(Path(folder) / "a", total, size)
        assert files == build(Path(folder) / "b", total, other_size)
        arrays = produce(0, total)
        for name, array in arrays.items():
            np.save(Path(folder) / f"{name}.npy", array)
            assert files[f"{name}.npy"] == (Path(folder) / f"{name}.npy").read_bytes()


@given(st.integers(1, 30), st.integers(1, 10), st.data())
@settings(max_examples=25, deadline=None)
def test_bytes_do_not_depend_on_where_it_stopped(total: int, size: int, data: st.DataObject):
    starts = list(range(0, total, size))
    stop_at = data.draw(st.sampled_from(starts))
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(KeyboardInterrupt):
            build(Path(folder) / "a", total, size, Stopping(stop_at))
        rest = Stopping()
        files = build(Path(folder) / "a", total, size, rest)
        assert rest.starts == [start for start in starts if start >= stop_at]
        assert files == build(Path(folder) / "b", total, size)


def test_no_items_make_empty_arrays_of_the_right_shape(tmp_path: Path):
    build(tmp_path, 0, 4)
    array = np.load(tmp_path / "vectors.npy")
    assert (array.shape, array.dtype) == ((0, 3), np.float16)


DIE_IN_A_BLOCK = """
import os, signal, sys
import numpy as np
from pathlib import Path
from retro_lab.store import ArtifactStore, Stage

def builder(workspace):
    def produce(start, stop):
        if start == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        items = np.arange(start, stop)
        vectors = (items[:, None] * np.ones(3)).astype(np.float16)
        return {"vectors": vectors, "runs": np.repeat(items, items % 3).astype(np.int32)}
    workspace.blocks(20, 4, produce, what="embedding", unit="chunks")

ArtifactStore(Path(sys.argv[1])).build(Stage("embeddings", 1, {}, {}), builder)
"""


def test_a_killed_process_is_resumed_to_the_same_bytes(tmp_path: Path):
    command = [sys.executable, "-c", DIE_IN_A_BLOCK, str(tmp_path / "killed")]
    assert subprocess.run(command, env=environment(), check=False).returncode == -signal.SIGKILL

    def builder(space: Workspace) -> None:
        space.blocks(20, 4, rest, what="embedding", unit="chunks")

    store = ArtifactStore(tmp_path / "killed")
    assert store.get(STAGE) is None
    rest = Stopping()
    resumed = store.build(STAGE, builder)
    assert rest.starts == [8, 12, 16]
    uninterrupted = ArtifactStore(tmp_path / "whole").build(STAGE, builder)
    for name in ("vectors.npy", "runs.npy"):
        assert resumed.file(name).read_bytes() == uninterrupted.file(name).read_bytes()
    assert resumed.manifest["files"] == uninterrupted.manifest["files"]
    assert sorted(path.name for path in resumed.path.iterdir()) == [
        "manifest.json",
        "runs.npy",
        "vectors.npy",
    ]


def block_files(path: Path) -> Iterator[Path]:
    return (file for file in sorted(path.rglob("*")) if "000000000004-" in file.name)


@pytest.mark.parametrize("suffix", [".vectors.npy", ".runs.npy", ".json"])
@pytest.mark.parametrize("damage", ["cut", "bit", "gone"])
def test_a_damaged_block_is_named_and_done_again(tmp_path: Path, caplog, suffix: str, damage: str):
    interrupted(tmp_path / "a")
    [file] = [file for file in block_files(tmp_path / "a") if file.name.endswith(suffix)]
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-3])
    else:
        file.write_bytes(
            content.replace(b"0", b"1", 1) if suffix == ".json" else content[:-1] + b"~"
        )

    rest = Stopping()
    assert build(tmp_path / "a", 10, 4, rest) == build(tmp_path / "b", 10, 4)
    assert rest.starts == [4, 8]
    if (suffix, damage) != (".json", "gone"):  # without its marker a block was never finished
        assert "embedding: block 4-8 is damaged" in caplog.text


def test_blocks_of_another_size_are_not_mixed_in(tmp_path: Path):
    interrupted(tmp_path / "a")
    rest = Stopping()
    assert build(tmp_path / "a", 10, 3, rest) == build(tmp_path / "b", 10, 4)
    assert rest.starts == [0, 3, 6, 9]


def test_an_interrupted_merge_is_done_again(tmp_path: Path):
    def killed_in_the_merge() -> None:
        began = False

        def die(number: int, path: Path) -> None:
            nonlocal began
            if began and path.suffix == ".npy":  # the first block, to be put behind the header
                os._exit(DEAD)
            began = began or (path.parent == tmp_path / "a" and path.suffix == ".npy")

        on_events(tmp_path / "a", die)
        build(tmp_path / "a", 10, 4)

    assert in_a_child(killed_in_the_merge) == DEAD
    assert list((tmp_path / "a").glob("*.npy"))
    rest = Stopping()
    Workspace(tmp_path / "a").remove_leftovers()
    assert build(tmp_path / "a", 10, 4, rest) == build(tmp_path / "b", 10, 4)
    assert rest.starts == []


def two_calls(space: Workspace, first: Stopping, second: Stopping) -> None:
    space.blocks(6, 2, lambda a, b: {"left": first(a, b)["runs"]}, what="one", unit="chunks")
    space.blocks(6, 2, lambda a, b: {"right": second(a, b)["runs"]}, what="two", unit="chunks")


def test_calls_that_were_merged_are_not_repeated(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        two_calls(Workspace(tmp_path), Stopping(), Stopping(4))
    first, second = Stopping(), Stopping()
    space = Workspace(tmp_path)
    space.remove_leftovers()
    two_calls(space, first, second)
    assert (first.starts, second.starts) == ([], [4])


def test_a_damaged_merge_is_named_and_done_again(tmp_path: Path, caplog):
    with pytest.raises(KeyboardInterrupt):
        two_calls(Workspace(tmp_path), Stopping(), Stopping(4))
    merged = tmp_path / "left.npy"
    content = merged.read_bytes()
    merged.write_bytes(content[:-1])
    first = Stopping()
    two_calls(Workspace(tmp_path), first, Stopping())
    assert first.starts == [0, 2, 4]
    assert merged.read_bytes() == content
    assert "left.npy" in caplog.text


def test_resuming_is_told(tmp_path: Path, caplog):
    caplog.set_level(logging.INFO, "retro_lab")
    interrupted(tmp_path)
    caplog.clear()
    build(tmp_path, 10, 4)
    assert caplog.messages[0] == "embedding: resuming, 8 of 10 chunks are done"
    assert caplog.messages[1] == "embedding: 2 chunks"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (lambda start: {"x": np.zeros(2, np.int32 if start else np.int64)}, "blocks differ"),
        (lambda start: {"x": np.zeros((2, 1 + start))}, "blocks differ"),
        (lambda start: {f"x{start}": np.zeros(2)}, "blocks differ"),
        (lambda start: {"x": np.array(1)}, r"has shape \(\)"),
        (lambda start: {"x": np.array([None])}, "dtype object"),
    ],
    ids=["dtype", "shape", "names", "scalar", "object"],
)
def test_blocks_that_do_not_fit_together_are_refused(tmp_path: Path, arrays, message: str):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, 4, 2, lambda start, stop: arrays(start))


def test_a_name_is_used_once(tmp_path: Path):
    space = Workspace(tmp_path)
    space.blocks(2, 2, produce, what="one", unit="chunks")
    with pytest.raises(ValueError, match=r"\.npy was written before"):
        space.blocks(2, 2, produce, what="two", unit="chunks")


def test_scratch_arrays_survive_a_stop_and_are_not_published(tmp_path: Path):
    attempts = []

    def builder(space: Workspace) -> None:
        function = Stopping()
        attempts.append(function)
        space.blocks(10, 4, function, what="a", unit="chunks", published=False)
        array = np.load(space.scratch / "vectors.npy")
        (space.scratch / "half.bin").write_bytes(b"left" if len(attempts) == 1 else b"new")
        if len(attempts) == 1:
            raise KeyboardInterrupt
        np.save(space.path / "sum.npy", array.sum(axis=0))

    store = ArtifactStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        store.build(STAGE, builder)
    built = store.build(STAGE, builder)
    assert [attempt.starts for attempt in attempts] == [[0, 4, 8], []]
    assert sorted(path.name for path in built.path.iterdir()) == ["manifest.json", "sum.npy"]


def test_half_a_merge_in_scratch_is_done_again(tmp_path: Path):
    def build_scratch(function: Stopping) -> None:
        space = Workspace(tmp_path)
        space.remove_leftovers()
        space.blocks(10, 4, function, what="a", unit="chunks", published=False)

    with pytest.raises(KeyboardInterrupt):
        build_scratch(Stopping(8))
    (Workspace(tmp_path).scratch / "vectors.npy").write_bytes(b"half")
    rest = Stopping()
    build_scratch(rest)
    assert rest.starts == [8]
    assert len(np.load(Workspace(tmp_path).scratch / "vectors.npy")) == 10
