"""The store: looks up a stage's result by its key, or builds it once."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from retro_lab.config.errors import UserError

from .engine import Engine
from .explain import Explanation, explain_stage
from .integrity import (
    CHECKSUM_LIMIT_BYTES,
    FORMAT_VERSION,
    MANIFEST,
    describe_files,
    discard,
    find_damage,
    read_manifest,
    sync,
    write_record,
)
from .progress import duration
from .stage import JSON, LOCKS_FOLDER, Artifact, Stage, ancestry, canonical_json
from .workspace import BLOCKS_FOLDER, Workspace

__all__ = ["Artifact", "ArtifactStore", "Builder", "Stage"]

LOG = logging.getLogger("retro_lab")
PARTIAL = ".partial"
# Libraries that can change a stage's bytes; their versions are recorded but not in the key.
_LIBRARIES = (
    "retro-lab",
    "numpy",
    "torch",
    "tokenizers",
    "faiss-cpu",
    "bm25s",
    "sentence-transformers",
)

Builder = Callable[[Workspace], Mapping[str, JSON] | None]


class ArtifactStore:
    """Published stage results below `root`, each in a folder `<root>/<stage>/<key>/`.

    Safe for many processes and machines that share the folder: a stage is built under a lock and
    published by one rename.

    Args:
        root: the folder; created if missing.
        engine: computes the blocks of stages; None for this process.
        largest_block: most items of a block; None for each stage's own size.
        checksum_limit: results of up to this many bytes are checked by checksum, larger ones by
            file size.
    """

    def __init__(
        self,
        root: Path,
        engine: Engine | None = None,
        *,
        largest_block: int | None = None,
        checksum_limit: int = CHECKSUM_LIMIT_BYTES,
    ) -> None:
        self.root = Path(root)
        self.engine = engine
        self.largest_block = largest_block
        self.checksum_limit = checksum_limit

    def get(self, stage: Stage | Artifact) -> Artifact | None:
        """The published, intact result, or None.

        Sizes are always checked, checksums up to the limit. A damaged result is logged and deleted,
        to be built again. An `Artifact` was checked before and is returned as it is.
        """
        if isinstance(stage, Artifact):
            return stage
        artifact, damage = self._load(stage.name, stage.key)
        if damage:
            try:
                with self._explained_errors(stage), self._lock(stage).acquire(timeout=0):
                    return self._load_or_discard(stage)
            except Timeout:
                LOG.warning("%s is damaged; another process sees to it", stage)
        return artifact

    def find(self, name: str, key: str) -> Artifact | None:
        """The published, intact result of a stage name and key; None if missing."""
        return self._load(name, key)[0]

    def spec(self, name: str, key: str) -> dict[str, JSON] | None:
        """`Stage.spec` of a stored result; None if missing."""
        try:
            return read_manifest(self.root / name / key)["spec"]
        except ValueError:
            return None

    def build(self, stage: Stage | Artifact, builder: Builder) -> Artifact:
        """The published result; built first if missing or damaged.

        `builder(workspace)` writes files into `workspace.path` and returns counts. If the builder
        fails or is interrupted, nothing is published and its finished blocks are reused the next
        time. Of several processes, one builds and the others wait.

        Raises:
            UserError: the disk is full or the store can't be written.
        """
        artifact = self.get(stage)
        if artifact is not None:
            return artifact
        assert isinstance(stage, Stage)
        with self._explained_errors(stage), self._locked(stage):
            return self._load_or_discard(stage) or self._build(stage, builder)

    def explain(self, stages: Sequence[Stage]) -> list[Explanation]:
        """Hit or miss of each stage; a miss lists differences from the nearest stored result."""
        return [explain_stage(self.root, stage) for stage in stages]

    def folder(self, stage: Stage) -> Path:
        """The folder of the stage's result, existing or not."""
        return self.root / stage.name / stage.key

    def _load(self, name: str, key: str) -> tuple[Artifact | None, list[str]]:
        """The artifact, or its damage; (None, []) if missing."""
        folder = self.root / name / key
        if not folder.is_dir():
            return None, []
        try:
            manifest = read_manifest(folder)
        except ValueError as error:
            return None, [str(error)]
        total = sum(file["size"] for file in manifest["files"].values())
        damage = find_damage(folder, manifest, checksums=total <= self.checksum_limit)
        if damage:
            return None, damage
        return Artifact(name, key, folder, manifest), []

    def _load_or_discard(self, stage: Stage) -> Artifact | None:
        """As `_load`, under the stage's lock; deletes a damaged result."""
        artifact, damage = self._load(stage.name, stage.key)
        if damage:
            LOG.warning(
                "%s is damaged: %s; it is deleted and will be built again", stage, "; ".join(damage)
            )
            discard(self.folder(stage))
        return artifact

    def _build(self, stage: Stage, builder: Builder) -> Artifact:
        partial = self.folder(stage).with_name(stage.key + PARTIAL)
        start = time.monotonic()
        LOG.info("building %s", stage)
        workspace = Workspace(partial, self.engine, self.largest_block)
        workspace.remove_leftovers()
        try:
            stats = builder(workspace)
        except UserError:
            if not workspace.has_blocks:  # bad input: without blocks there is nothing to resume
                shutil.rmtree(partial)
            raise
        seconds = round(time.monotonic() - start, 3)
        files = describe_files(partial, without=BLOCKS_FOLDER)
        if MANIFEST in files:
            raise ValueError(f"the builder of {stage} may not write {MANIFEST}")
        # The manifest is written last, and the rename publishes the result. Block markers are kept
        # until then, so that an interruption loses little.
        manifest = write_record(partial / MANIFEST, _describe(stage, files, stats or {}, seconds))
        shutil.rmtree(partial / BLOCKS_FOLDER)
        sync(partial)
        folder = partial.rename(self.folder(stage))
        sync(folder.parent)
        LOG.info("built %s in %s", stage, duration(seconds))
        return Artifact(stage.name, stage.key, folder, manifest)

    def _lock(self, stage: Stage) -> FileLock:
        locks = self.root / LOCKS_FOLDER
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / f"{stage.name}-{stage.key}.lock")

    @contextmanager
    def _locked(self, stage: Stage) -> Generator[None]:
        lock = self._lock(stage)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            LOG.info("waiting for another process that is building %s", stage)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _explained_errors(self, stage: Stage) -> Generator[None]:
        """Turns a full disk or a read-only store into a UserError."""
        try:
            yield
        except Exception as error:
            move = "put the store elsewhere with store.dir=... or RETRO_LAB_STORE"
            if _is_disk_full(error):
                existing = next(path for path in (self.root, *self.root.parents) if path.exists())
                free = shutil.disk_usage(existing).free
                raise UserError(
                    f"no space is left for {stage}: the disk of {self.root} has "
                    f"{free / 1e6:,.0f} MB free; finished results are untouched",
                    fix=f"free some space (`python -m retro_lab doctor` can), or {move}; "
                    "the same command goes on from here",
                ) from error
            if _is_write_protected(error, self.root):
                raise UserError(f"can't write to the store: {error}", fix=move) from error
            raise


def is_store(folder: Path) -> bool:
    """Whether the folder is a store that was built into."""
    return (folder / LOCKS_FOLDER).is_dir()


def _is_disk_full(error: Exception) -> bool:
    """Also recognises numpy's, faiss's and safetensors' own texts of the system error."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    # `np.save` reports a short write without an errno.
    short_write = isinstance(error, OSError) and re.search(r"requested and \d+ written", str(error))
    return bool(short_write) or os.strerror(errno.ENOSPC) in str(error)


def _is_write_protected(error: Exception, root: Path) -> bool:
    codes = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)  # ENOTDIR: root is a file
    denied = getattr(error, "errno", None) in codes
    return denied and str(getattr(error, "filename", "")).startswith(str(root))


def _describe(stage: Stage, files: JSON, stats: Mapping[str, JSON], seconds: float) -> JSON:
    return {
        "format_version": FORMAT_VERSION,
        "stage": stage.name,
        "key": stage.key,
        "spec": stage.spec,
        "parents": stage.spec["parents"],
        "ancestry": [list(pair) for pair in sorted(ancestry(stage))],
        "files": files,
        "stats": json.loads(canonical_json(stats)),
        "seconds": seconds,  # of the attempt that finished
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
    }


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
