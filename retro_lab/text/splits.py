"""Assigns documents to splits: by file, by lists of ids, or by a hash of id or group."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError
from retro_lab.config.schema import SplitConfig

SPLITS = ("train", "validation", "test")
"""The splits; a split's code is its index."""

_FEWEST_DOCUMENTS = 2  # a bootstrap over documents needs two
_FEW = 10  # documents, so few that files may be meant to hold several


def id_lists(config: SplitConfig) -> dict[str, Path]:
    """The files with ids, by split; empty if the hash decides."""
    named = {split: getattr(config, f"{split}_ids") for split in SPLITS}
    return {split: Path(path).expanduser() for split, path in named.items() if path is not None}


def id_list_digests(config: SplitConfig) -> dict[str, str]:
    """SHA-256 of each list of ids, by its key."""
    return {
        f"split.{split}_ids": hashlib.sha256(_read(split, path)).hexdigest()
        for split, path in id_lists(config).items()
    }


def assign_splits(
    ids: Sequence[str],
    given: Sequence[str | None],
    config: SplitConfig,
    known: Container[str],
) -> NDArray[np.uint8]:
    """The split of each document, coded by its index in `SPLITS`.

    A split with its own files is left out of the draw; lists of ids replace the draw.

    Args:
        ids: the documents.
        given: for each document, the split of its file, or None.
        config: shares, pattern and lists.
        known: every id of the corpus, including those left out by `corpus.max_bytes`.

    Returns:
        uint8 [D].

    Raises:
        UserError: the lists don't fit the documents, the pattern is wrong, or a split has fewer
            than two documents.
    """
    with_files = {split for split in given if split is not None}
    lists = id_lists(config)
    if lists and with_files:
        raise UserError(
            "corpus.split: lists of ids (train_ids, ...) and files for splits "
            "(corpus.validation_path, corpus.test_path) are both set",
            fix="use one of the two",
        )
    if lists:
        names: Sequence[str] = _by_list(ids, lists, known)
    else:
        names = _by_hash(ids, given, config, with_files)
    codes = {split: code for code, split in enumerate(SPLITS)}
    splits = np.fromiter((codes[name] for name in names), np.uint8, len(ids))
    _check_sizes(splits, config, drawn=not lists and not with_files)
    return splits


def draw(key: str) -> float:
    """A number in [0, 1) that depends on `key` only, uniform over keys."""
    return int.from_bytes(hashlib.sha256(f"split:{key}".encode()).digest()) / 2**256


def _by_hash(
    ids: Sequence[str], given: Sequence[str | None], config: SplitConfig, with_files: set[str]
) -> list[str]:
    test = 0.0 if "test" in with_files else config.test
    validation = 0.0 if "validation" in with_files else config.validation
    groups = _groups(ids, config.group_pattern)

    def drawn(group: str) -> str:
        u = draw(group)
        return "test" if u < test else "validation" if u < test + validation else "train"

    return [split or drawn(group) for split, group in zip(given, groups, strict=True)]


def _groups(ids: Sequence[str], pattern: str | None) -> Sequence[str]:
    """The hashed text of each document: the pattern's first group, or else its id."""
    if pattern is None:
        return ids
    key = "corpus.split.group_pattern"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"{key}={pattern}: not a regular expression: {error}",
            fix=f"correct it, or {key}=null",
        ) from error
    if not compiled.groups:
        raise UserError(
            f"{key}={pattern}: has no group", fix="put what documents share in parentheses"
        )
    found = [match[1] if (match := compiled.search(name)) else None for name in ids]
    if all(group is None for group in found):
        raise UserError(
            f"{key}={pattern}: matches none of the {len(ids)} ids, such as {ids[0]!r}",
            fix="correct the pattern",
        )
    return [name if group is None else group for name, group in zip(ids, found, strict=True)]


def _by_list(ids: Sequence[str], lists: Mapping[str, Path], known: Container[str]) -> list[str]:
    place: dict[str, tuple[str, str]] = {}  # id -> split, place in its list
    for split, path in lists.items():
        for number, name in enumerate(_lines(split, path), 1):
            here = f"{path.name}, line {number}"
            if name in place:
                other = place[name][1]
                raise UserError(
                    f"{here}: document {name!r} is already listed ({other})",
                    fix="list every document once, for one split",
                )
            if name not in known:
                raise UserError(
                    f"{here}: the corpus has no document {name!r}",
                    fix=f"correct corpus.split.{split}_ids",
                )
            place[name] = split, here
    unlisted = [name for name in ids if name not in place]
    if unlisted:
        raise UserError(
            f"{len(unlisted)} of {len(ids)} documents are in none of the lists corpus.split.*_ids, "
            f"{unlisted[0]!r} the first",
            fix="list every document once",
        )
    return [place[name][0] for name in ids]


def _lines(split: str, path: Path) -> list[str]:
    try:
        text = _read(split, path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"corpus.split.{split}_ids={path}: not valid UTF-8", fix="convert it to UTF-8"
        ) from error
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n") if line]


def _read(split: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"corpus.split.{split}_ids={path}: {error.strerror}",
            fix="name a file with one document id a line",
        ) from error


def _check_sizes(splits: NDArray[np.uint8], config: SplitConfig, *, drawn: bool) -> None:
    for code, split in enumerate(SPLITS):
        count = int((splits == code).sum())
        if count >= _FEWEST_DOCUMENTS:
            continue
        share = getattr(config, split, None)
        setting = f" (corpus.split.{split}={share})" if drawn and share is not None else ""
        documents = "document" if count == 1 else "documents"
        move = f"raise corpus.split.{split}, or " if setting else ""
        parted = "; corpus.separator parts a file of corpus=text" if len(splits) < _FEW else ""
        raise UserError(
            f"corpus too small for the split: {count} {split} {documents} of {len(splits)}"
            f"{setting}; every split needs at least {_FEWEST_DOCUMENTS}",
            fix=f"{move}take more documents (a larger corpus.max_bytes, if it is set){parted}",
        )
