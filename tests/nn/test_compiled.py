"""Contract: kernels are compiled once for each precision; where there is no compiler there are
none, and nothing else happens.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from precision import needs_kernels

from retro_lab.nn.cpu import compiled


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and nothing loaded yet; a compiler is quick that need not optimise."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    quick = tuple(flag.replace("-O3", "-O0") for flag in compiled.FLAGS)
    monkeypatch.setattr(compiled, "FLAGS", quick)
    compiled.loaded.cache_clear()
    yield tmp_path / "retro_lab"
    compiled.loaded.cache_clear()


def test_without_a_compiler_there_are_no_kernels(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert compiled.library(torch.float32) is None
    assert compiled.describe() == "none: no compiler is called cc, gcc, clang"
    assert not fresh.exists()


def test_a_compiler_that_fails_is_none(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = fresh.parent / "broken"
    compiler.write_text("#!/bin/sh\necho 'no OpenMP in here' >&2; exit 1\n", encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setattr(compiled, "COMPILERS", (str(compiler),))
    assert compiled.library(torch.float32) is None
    assert compiled.describe() == f"none: {compiler} fails with 'no OpenMP in here'"
    assert not list(fresh.glob("*.so"))


@needs_kernels
def test_the_next_compiler_is_tried(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "COMPILERS", ("false", *compiled.COMPILERS))
    assert compiled.library(torch.float32) is not None
    assert "false" not in compiled.describe()


@needs_kernels
def test_a_cache_folder_may_be_relative(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fresh.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert compiled.library(torch.float32) is not None


@pytest.mark.parametrize("home", ["file", "~nobody-of-that-name"])
def test_a_cache_that_cannot_be_written_is_no_error(
    home: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fresh.parent / "file").write_text("")
    monkeypatch.chdir(fresh.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert compiled.library(torch.float32) is None
    assert compiled.describe().startswith("none: ")


@needs_kernels
def test_kernels_are_built_once_for_each_precision(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiled.library(torch.float32) is not None
    assert compiled.describe().startswith("compiled by ")
    assert compiled.library(torch.float64) is not None
    assert compiled.library(torch.bfloat16) is None
    assert len(list(fresh.iterdir())) == 2
    compiled.loaded.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    assert compiled.library(torch.float32) is not None


@needs_kernels
@pytest.mark.parametrize("damage", ["truncated", "a flipped bit", "empty"])
def test_a_damaged_library_is_compiled_again_and_never_loaded(damage: str, fresh: Path) -> None:
    """The dynamic loader would die of it, and Python with it."""
    assert compiled.library(torch.float32) is not None
    [built] = fresh.iterdir()
    content = built.read_bytes()
    flipped = content[:9000] + bytes([content[9000] ^ 1]) + content[9001:]
    damaged = {"truncated": content[:5000], "a flipped bit": flipped, "empty": b""}[damage]
    aside = fresh / "aside"
    aside.write_bytes(damaged)
    aside.replace(built)  # the library that is loaded now keeps its own bytes
    compiled.loaded.cache_clear()
    assert compiled.library(torch.float32) is not None
    [again] = fresh.iterdir()
    assert hashlib.sha256(again.read_bytes()).hexdigest()[:16] in again.name
    assert again.read_bytes() != damaged
