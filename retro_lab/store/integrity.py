"""Manifests and checksums that detect changes to a published folder."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from pathlib import Path

from retro_lab.config.files import sync

from .stage import JSON, digest

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
# Reading this much takes about 0.1 s, so the checksums of smaller results are checked at each use.
# Larger results are checked by size, and by `doctor`.
CHECKSUM_LIMIT_BYTES = 64 * 2**20
# In the name of a folder that is being deleted, from before its first file is removed.
DISCARDED = ".discarded"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_files(folder: Path, *, without: str) -> dict[str, JSON]:
    """Maps each file's relative path to {size, sha256}; flushes the files to disk.

    The top-level entry `without` is left out.
    """
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] == without:
            continue
        sync(path)
        files[name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
    return files


def write_record(path: Path, content: dict[str, JSON]) -> dict[str, JSON]:
    """Writes a JSON object with its own digest, atomically; returns the written object."""
    record = {**content, "digest": digest(content)}
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n")
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return record


def read_record(path: Path) -> dict[str, JSON]:
    """Reads a file of `write_record`.

    Raises:
        ValueError: the file is missing or was changed.
        OSError: reading failed, which proves no damage.
    """
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise ValueError(f"{path.name} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path.name} can't be read: {error}") from None
    content = {**record} if isinstance(record, dict) else {}
    if content.pop("digest", None) != digest(content):
        raise ValueError(f"{path.name} was changed since it was written")
    return record


def read_manifest(folder: Path) -> dict[str, JSON]:
    """The manifest of a published folder; ValueError if missing, changed or of another format."""
    manifest = read_record(folder / MANIFEST)
    if manifest["format_version"] != FORMAT_VERSION:
        raise ValueError(f"{MANIFEST} isn't of format {FORMAT_VERSION}")
    expected = folder.parent.name, folder.name
    if (manifest["stage"], manifest["key"]) != expected:
        raise ValueError(f"{MANIFEST} doesn't describe {'/'.join(expected)}")
    return manifest


def find_damage(folder: Path, manifest: dict[str, JSON], *, checksums: bool) -> list[str]:
    """Describes each difference from the manifest in a sentence; empty if the folder is intact."""
    damage = []
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            damage.append(f"{name} is missing")
        elif (size := path.stat().st_size) != expected["size"]:
            damage.append(f"{name} has {size:,} bytes, {expected['size']:,} expected")
        elif checksums and (found := sha256_of(path)) != expected["sha256"]:
            damage.append(
                f"{name} has SHA-256 {found[:12]}..., {expected['sha256'][:12]}... expected"
            )
    return damage


def size_of(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def discard(folder: Path) -> None:
    """Deletes a folder, renamed first so that no process reads half of it."""
    aside = folder.with_name(f"{folder.name}{DISCARDED}-{secrets.token_hex(4)}")
    folder.rename(aside)
    # A network file system may refuse to delete an open file; garbage collection retries.
    shutil.rmtree(aside, ignore_errors=True)
