"""Contract: a stage is built once and appears whole, or not at all, whatever happens meanwhile."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scripts import environment

from retro_lab.config.errors import UserError
from retro_lab.store import ArtifactStore, Stage, Workspace

STAGE = Stage("chunks", 1, {"chunk_size": 64}, {})


def write_two_files(workspace: Workspace) -> dict[str, int]:
    np.save(workspace.path / "tokens.npy", np.arange(5))
    (workspace.path / "sub").mkdir()
    (workspace.path / "sub" / "meta.json").write_text("{}")
    return {"chunks": 5}


def visible(root: Path) -> list[str]:
    """Folders that a reader would take for results."""
    return [path.name for path in root.glob("*/*") if path.is_dir() and "." not in path.name]


def test_builds_once_and_finds_it_again(tmp_path: Path):
    calls = []

    def builder(workspace: Workspace) -> dict[str, int]:
        calls.append(1)
        return write_two_files(workspace)

    built = ArtifactStore(tmp_path).build(STAGE, builder)
    again = ArtifactStore(tmp_path).build(STAGE, builder)
    assert calls == [1]
    assert built == again == ArtifactStore(tmp_path).get(STAGE)
    assert built.path == tmp_path / "chunks" / STAGE.key
    assert built.stats == {"chunks": 5}
    assert np.load(built.file("tokens.npy")).tolist() == [0, 1, 2, 3, 4]
    assert built.file("sub/meta.json").read_text() == "{}"
    assert sorted(built.manifest["files"]) == ["sub/meta.json", "tokens.npy"]


def test_missing_is_none_and_leaves_no_trace(tmp_path: Path):
    root = tmp_path / "store"
    assert ArtifactStore(root).get(STAGE) is None
    assert not root.exists()


def test_manifest_says_where_a_result_comes_from(tmp_path: Path):
    artifact = ArtifactStore(tmp_path).build(STAGE, write_two_files)
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    assert manifest == artifact.manifest
    assert manifest["spec"] == STAGE.spec
    assert manifest["versions"]["numpy"] == np.__version__
    assert {"seconds", "created", "format_version", "stage", "key"} <= manifest.keys()


def test_unknown_file_names_those_there_are(tmp_path: Path):
    artifact = ArtifactStore(tmp_path).build(STAGE, write_two_files)
    with pytest.raises(ValueError, match=r"no file 'x.npy'; it has sub/meta.json, tokens.npy"):
        artifact.file("x.npy")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_builder_that_fails_publishes_nothing_and_leaves_nothing_behind(tmp_path: Path, error):
    def failing(workspace: Workspace) -> None:
        write_two_files(workspace)
        (workspace.path / "leftover.bin").write_bytes(b"half")
        raise error

    store = ArtifactStore(tmp_path)
    with pytest.raises(error):
        store.build(STAGE, failing)
    assert visible(tmp_path) == []
    assert store.get(STAGE) is None
    artifact = store.build(STAGE, write_two_files)
    assert sorted(artifact.manifest["files"]) == ["sub/meta.json", "tokens.npy"]
    files = {path.name for path in artifact.path.rglob("*") if path.is_file()}
    assert files == {"tokens.npy", "meta.json", "manifest.json"}


def test_nothing_is_visible_while_it_is_built(tmp_path: Path):
    store = ArtifactStore(tmp_path)

    def looking(workspace: Workspace) -> None:
        write_two_files(workspace)
        assert visible(tmp_path) == []
        assert store.get(STAGE) is None

    store.build(STAGE, looking)
    assert visible(tmp_path) == [STAGE.key]


def test_stopped_before_the_rename_publishes_nothing(tmp_path: Path, monkeypatch):
    def stop(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    store = ArtifactStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            store.build(STAGE, write_two_files)
    assert visible(tmp_path) == []
    assert store.build(STAGE, write_two_files).stats == {"chunks": 5}


def test_the_name_of_the_manifest_is_taken(tmp_path: Path):
    def builder(workspace: Workspace) -> None:
        (workspace.path / "manifest.json").write_text("{}")

    with pytest.raises(ValueError, match=r"may not write manifest\.json"):
        ArtifactStore(tmp_path).build(STAGE, builder)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError("1000000 requested and 393200 written"),  # np.save on a disk that fills up
        RuntimeError("write error in index.faiss: 28 (No space left on device)"),
    ],
    ids=["full", "quota", "short write", "wrapped by a library"],
)
def test_full_disk_is_told_with_a_fix_and_spares_the_store(tmp_path: Path, error):
    store = ArtifactStore(tmp_path)
    other = store.build(Stage("corpus", 1, {}, {}), write_two_files)

    def builder(workspace: Workspace) -> None:
        write_two_files(workspace)
        raise error

    with pytest.raises(UserError, match=r"no space is left for chunks/.*MB free") as caught:
        store.build(STAGE, builder)
    assert caught.value.fix is not None
    assert "store.dir" in caught.value.fix
    assert store.get(Stage("corpus", 1, {}, {})) == other
    assert store.get(STAGE) is None


def test_full_disk_in_a_block_keeps_the_blocks_before_it(tmp_path: Path, monkeypatch):
    produced = []

    def builder(workspace: Workspace) -> None:
        def produce(start: int, stop: int) -> dict[str, np.ndarray]:
            produced.append(start)
            return {"x": np.arange(start, stop)}

        workspace.blocks(6, 2, produce, what="chunking", unit="chunks")

    def full_disk(fp, array, **options) -> None:
        if len(produced) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_array(fp, array, **options)

    write_array = np.lib.format.write_array
    store = ArtifactStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array", full_disk)
        with pytest.raises(UserError, match="no space is left"):
            store.build(STAGE, builder)
    artifact = store.build(STAGE, builder)
    assert produced == [0, 2, 4, 4]
    assert np.load(artifact.file("x.npy")).tolist() == [0, 1, 2, 3, 4, 5]


def test_store_that_is_not_writable_is_told_with_a_fix(tmp_path: Path, monkeypatch):
    def denied(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(UserError, match="can't write to the store") as caught:
        ArtifactStore(tmp_path / "store").build(STAGE, write_two_files)
    assert "RETRO_LAB_STORE" in str(caught.value.fix)


def test_a_store_that_is_a_file_is_explained(tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(UserError, match=r"can't write to the store: .*Not a directory"):
        ArtifactStore(tmp_path / "store").build(STAGE, write_two_files)


BUILD_AND_REPORT = """
import logging, sys
from pathlib import Path
from retro_lab.store import ArtifactStore, Stage
logging.basicConfig(level=logging.INFO, format="%(message)s")

def builder(workspace):
    print("building", flush=True)
    sys.stdin.readline()
    (workspace.path / "x.bin").write_bytes(b"content")
    return {"files": 1}

print(ArtifactStore(Path(sys.argv[1])).build(Stage("chunks", 1, {}, {}), builder).stats["files"])
"""


def start(root: Path) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", BUILD_AND_REPORT, str(root)]
    return subprocess.Popen(command, env=environment(), text=True, **pipes)


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path):
    with start(tmp_path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "building\n"
        with start(tmp_path) as second:
            assert second.stderr is not None
            waiting = second.stderr.readline()
            assert waiting.startswith("waiting for another process that is building chunks/")
            # Only now the first may go on; a second that builds too would wait for its own line.
            assert first.communicate("go\n")[0] == "1\n"
            assert second.communicate("go\n")[0] == "1\n"
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_waiting_process_takes_over_from_one_that_dies(tmp_path: Path):
    with start(tmp_path) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with start(tmp_path) as second:
            assert second.stderr is not None
            second.stderr.readline()
            first.kill()
            assert second.communicate("go\n")[0] == "building\n1\n"


def test_building_is_logged(tmp_path: Path, caplog):
    caplog.set_level(logging.INFO, "retro_lab")
    ArtifactStore(tmp_path).build(STAGE, write_two_files)
    assert caplog.messages[0] == f"building chunks/{STAGE.key}"
    assert caplog.messages[-1].startswith(f"built chunks/{STAGE.key} in ")


def test_bad_input_leaves_nothing_behind(tmp_path: Path) -> None:
    """A user's mistake is not resumed from, unless blocks were finished before it was seen."""
    store = ArtifactStore(tmp_path)
    stage = Stage("corpus", 1, {}, {})

    def refuse(workspace: Workspace) -> None:
        (workspace.path / "text.bin").write_bytes(b"half")
        raise UserError("line 2: not valid JSON")

    with pytest.raises(UserError):
        store.build(stage, refuse)
    assert not list((tmp_path / "corpus").iterdir())
