"""The private folder of a stage's build, with blocks that make the build resumable."""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .engine import Engine, LocalEngine
from .integrity import read_record, sha256_of, write_record
from .progress import counted, track
from .stage import JSON

LOG = logging.getLogger("retro_lab")
# Bookkeeping of unfinished builds; never published.
BLOCKS_FOLDER = ".blocks"
_COPY_BYTES = 8 * 2**20

Produce = Callable[[int, int], Mapping[str, np.ndarray | float]]


class Workspace:
    """A folder for the files of a stage under construction; its blocks survive a crash.

    When a build starts again, files that the builder wrote directly are deleted; blocks and their
    merged arrays are kept. A builder must make its calls of `blocks` in the same order every time.

    Args:
        path: the folder.
        engine: computes blocks with `anywhere=True`; None for this process.
        largest_block: most items of a block, overriding the builder's size; None for no limit.

    Attributes:
        path: the folder.
        scratch: folder for intermediate files; survives a crash and is never published.
    """

    path: Path
    scratch: Path

    def __init__(
        self, path: Path, engine: Engine | None = None, largest_block: int | None = None
    ) -> None:
        self.path = path
        self._largest_block = largest_block
        self._engine = engine or LocalEngine()
        self.scratch = path / BLOCKS_FOLDER
        self._calls = 0
        self.scratch.mkdir(parents=True, exist_ok=True)

    @property
    def has_blocks(self) -> bool:
        """Whether any block is finished."""
        return any(self.scratch.rglob("*.json"))

    def block_size(self, size: int) -> int:
        """The number of items of a block: `size`, or the limit if smaller."""
        return size if self._largest_block is None else min(size, self._largest_block)

    def remove_leftovers(self) -> None:
        """Removes files that an earlier attempt wrote directly; keeps blocks and merges."""
        markers = list(self.scratch.glob("*.json"))
        calls = [path for path in self.scratch.iterdir() if path.is_dir()]
        kept = {self.scratch, *markers, *calls}
        for marker in markers:
            kept.update(self.path / name for name in (_read(marker) or {"merged": {}})["merged"])
        for path in [*self.path.iterdir(), *self.scratch.iterdir()]:
            if path in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def blocks(
        self,
        total: int,
        size: int,
        produce: Produce,
        *,
        what: str,
        unit: str,
        published: bool = True,
        anywhere: bool = False,
    ) -> dict[str, float]:
        """Produces arrays block by block and merges them into `<name>.npy`; resumes after a stop.

        Finished blocks with valid checksums are reused. The merged bytes are the same with or
        without an interruption and for every `size`, provided that `produce(a, c)` equals
        `produce(a, b)` followed by `produce(b, c)`. Memory holds one block.

        Args:
            total: number of items; for 0, `produce(0, 0)` gives the empty arrays.
            size: items a block, the most that an interruption loses.
            produce: (start, stop) -> numeric arrays by name, joined on axis 0; the number of rows
                may differ from the number of items. Names, dtypes and other axes must agree in all
                blocks, else ValueError. A plain number is a count.
            what: the activity for the progress bar ("embedding").
            unit: plural of the items ("chunks").
            published: whether the arrays are part of the result; otherwise they are put in
                `scratch`.
            anywhere: whether other processes and machines may call `produce`: it can be pickled and
                reads only its arguments and files.

        Returns:
            The counts by name, summed over all blocks.
        """
        if total < 0 or size < 1:
            raise ValueError(f"total {total} and size {size} don't make blocks")
        size = self.block_size(size)
        call = self.scratch / f"{self._calls:03d}"
        self._calls += 1
        merged = self._merged_before(call, total, what)
        if merged is not None:
            LOG.info("%s: an earlier attempt did all of %s", what, counted(total, unit))
            return merged.get("counts", {})  # builds begun by an older version have no counts
        call.mkdir(exist_ok=True)
        starts = range(0, max(total, 1), size)
        bounds = [(start, min(start + size, total)) for start in starts]
        found = (self._load_block(call, start, stop, what) for start, stop in bounds)
        markers = {marker["start"]: marker for marker in found if marker is not None}
        missing = [(start, stop) for start, stop in bounds if start not in markers]
        left = sum(stop - start for start, stop in missing)
        if markers:
            done = f"{total - left:,} of {counted(total, unit)} are done"
            LOG.info("%s: resuming, %s", what, done)
        if missing:
            engine = self._engine if anywhere else LocalEngine()
            with track(left, what, unit) as advance:
                for marker in engine.run(partial(_do_block, call, produce), missing):
                    markers[marker["start"]] = marker
                    advance(marker["stop"] - marker["start"])
        in_order = [markers[start] for start in starts]
        counts = _summed(marker.get("counts", {}) for marker in in_order)
        folder = self.path if published else self.scratch
        self._merge(call, total, folder, in_order, counts)
        return counts

    def _load_block(self, call: Path, start: int, stop: int, what: str) -> JSON | None:
        """The marker of a finished, intact block, or None; damage is logged."""
        path = call / f"{_block_name(start, stop)}.json"
        if not path.exists():
            return None
        marker = _read(path)
        damaged = ["its marker"]
        if marker is not None:
            arrays = marker["arrays"].values()
            damaged = [a["file"] for a in arrays if not _has_digest(call / a["file"], a["sha256"])]
        if damaged:
            files = ", ".join(damaged)
            LOG.warning("%s: block %d-%d is damaged (%s); doing it again", what, start, stop, files)
            return None
        return marker

    def _merge(
        self, call: Path, total: int, folder: Path, markers: list[JSON], counts: dict[str, float]
    ) -> None:
        """Joins the blocks' arrays file by file, records the merge, then deletes the blocks."""
        first = markers[0]["arrays"]
        for marker in markers[1:]:
            if _layout(marker["arrays"]) != _layout(first):
                raise ValueError(
                    f"blocks differ in names, dtypes or shapes: {_layout(first)} and "
                    f"{_layout(marker['arrays'])} from {marker['start']} on (in {call})"
                )
        merged = {}
        for name, array in first.items():
            target = folder / f"{name}.npy"
            if target.exists():
                raise ValueError(f"{target.name} was written before")
            rows = sum(marker["arrays"][name]["shape"][0] for marker in markers)
            with target.open("wb") as raw:
                out = _HashingFile(raw)
                _write_header(out, np.dtype(array["dtype"]), (rows, *array["shape"][1:]))
                for marker in markers:
                    _append_data(out, call / marker["arrays"][name]["file"])
            merged[target.relative_to(self.path).as_posix()] = out.digest()
        record = {"total": total, "merged": merged, "counts": counts}
        write_record(call.with_suffix(".json"), record)
        shutil.rmtree(call)

    def _merged_before(self, call: Path, total: int, what: str) -> JSON | None:
        """The record of an earlier attempt's merge of this call; None if missing or damaged."""
        record = _read(call.with_suffix(".json"))
        if record is None:
            return None
        paths = {self.path / name: sha256 for name, sha256 in record["merged"].items()}
        damaged = [path.name for path in paths if not _has_digest(path, paths[path])]
        if not damaged and record["total"] == total:
            # The earlier attempt may have ended between the merge and the removal of its blocks.
            shutil.rmtree(call, ignore_errors=True)
            return record
        if damaged:
            LOG.warning("%s: %s of an earlier attempt is damaged; doing it again", what, damaged)
        for path in paths:
            path.unlink(missing_ok=True)
        return None


class _HashingFile:
    """Writes to a file and hashes the data.

    numpy writes in plain pieces, so a full disk raises OSError; with a memory map it would kill the
    process.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def digest(self) -> str:
        return self._hash.hexdigest()


def _do_block(call: Path, produce: Produce, start: int, stop: int) -> JSON:
    """Writes a block's arrays, then the marker that completes the block; returns the marker."""
    marker = {"start": start, "stop": stop, "arrays": {}, "counts": {}}
    for name, array in produce(start, stop).items():
        if not isinstance(array, np.ndarray):
            marker["counts"][name] = array
            continue
        if array.ndim == 0 or array.dtype.kind in "OV":
            raise ValueError(f"block array {name} has shape {array.shape} and dtype {array.dtype}")
        path = call / f"{_block_name(start, stop)}.{name}.npy"
        # A worker that was given up may still be writing the same block.
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        with temporary.open("wb") as raw:
            out = _HashingFile(raw)
            np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)  # type: ignore[arg-type]
        temporary.replace(path)
        marker["arrays"][name] = {
            "file": path.name,
            "sha256": out.digest(),
            "dtype": array.dtype.str,
            "shape": list(array.shape),
        }
    return write_record(call / f"{_block_name(start, stop)}.json", marker)


def _summed(counts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)  # adds, unlike dict.update
    return dict(total)


def _write_header(out: _HashingFile, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)  # type: ignore[arg-type]


def _append_data(out: _HashingFile, file: Path) -> None:
    """Copies the data of an npy file without the header."""
    with file.open("rb") as source:
        np.lib.format.read_magic(source)
        np.lib.format.read_array_header_1_0(source)
        while data := source.read(_COPY_BYTES):
            out.write(data)


def _block_name(start: int, stop: int) -> str:
    return f"{start:012d}-{stop:012d}"


def _layout(arrays: JSON) -> dict[str, tuple]:
    return {name: (array["dtype"], *array["shape"][1:]) for name, array in arrays.items()}


def _has_digest(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _read(marker: Path) -> JSON | None:
    """The content of a marker, or None if missing or damaged."""
    try:
        return read_record(marker)
    except ValueError:
        return None
