"""Contract: a published file that changed is found, named and built again; nothing reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retro_lab.store import ArtifactStore, Stage, Workspace, integrity

STAGE = Stage("chunks", 1, {"chunk_size": 64}, {})


def builder(workspace: Workspace) -> dict[str, int]:
    np.save(workspace.path / "tokens.npy", np.arange(100))
    return {"chunks": 100}


def flip_bit(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    "bit": (lambda folder: flip_bit(folder / "tokens.npy"), "tokens.npy has SHA-256"),
    "cut": (
        lambda folder: truncate(folder / "tokens.npy"),
        "tokens.npy has 927 bytes, 928 expected",
    ),
    "gone": (lambda folder: (folder / "tokens.npy").unlink(), "tokens.npy is missing"),
    "manifest gone": (
        lambda folder: (folder / "manifest.json").unlink(),
        "manifest.json is missing",
    ),
    "manifest cut": (lambda folder: truncate(folder / "manifest.json"), "manifest.json"),
    "manifest empty": (lambda folder: (folder / "manifest.json").write_text("[]"), "was changed"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_and_built_again(tmp_path: Path, caplog, name: str):
    damage, message = DAMAGES[name]
    stage_store = ArtifactStore(tmp_path)
    artifact = stage_store.build(STAGE, builder)
    intact = artifact.file("tokens.npy").read_bytes()
    if name == "manifest cut":  # the closing brace, not only the line end
        truncate(artifact.path / "manifest.json")
    damage(artifact.path)
    assert not stage_store.explain([STAGE])[0].hit or name == "bit"

    assert stage_store.get(STAGE) is None
    [record] = [r for r in caplog.records if r.levelname == "WARNING"]
    assert record.levelname == "WARNING"
    assert f"chunks/{STAGE.key} is damaged" in record.message
    assert message in record.message
    assert "built again" in record.message

    assert not artifact.path.exists()
    assert stage_store.build(STAGE, builder).file("tokens.npy").read_bytes() == intact
    assert [path.name for path in (tmp_path / "chunks").iterdir()] == [STAGE.key]


def test_build_by_itself_replaces_what_is_damaged(tmp_path: Path):
    stage_store = ArtifactStore(tmp_path)
    artifact = stage_store.build(STAGE, builder)
    intact = artifact.file("tokens.npy").read_bytes()
    flip_bit(artifact.file("tokens.npy"))
    assert stage_store.build(STAGE, builder).file("tokens.npy").read_bytes() == intact


def test_every_bit_of_a_manifest_counts(tmp_path: Path):
    path = ArtifactStore(tmp_path).build(STAGE, builder).path / "manifest.json"
    data = path.read_bytes()
    for position in range(0, len(data) - 1, 7):
        flip_bit(path, position)
        try:
            manifest = integrity.read_manifest(path.parent)
        except ValueError:
            pass
        else:  # white space may change, the content may not
            path.write_bytes(data)
            assert manifest == integrity.read_manifest(path.parent)
        path.write_bytes(data)


def test_a_result_moved_to_another_key_is_not_taken_for_it(tmp_path: Path, caplog):
    stage_store = ArtifactStore(tmp_path)
    other = Stage("chunks", 1, {"chunk_size": 32}, {})
    stage_store.build(STAGE, builder).path.rename(stage_store.folder(other))
    assert stage_store.get(other) is None
    assert f"doesn't describe chunks/{other.key}" in caplog.text


def test_large_results_are_checked_by_size_only(tmp_path: Path):
    stage_store = ArtifactStore(tmp_path, checksum_limit=927)
    artifact = stage_store.build(STAGE, builder)
    flip_bit(artifact.file("tokens.npy"))
    assert stage_store.get(STAGE) == artifact
    truncate(artifact.file("tokens.npy"))
    assert stage_store.get(STAGE) is None


def test_damage_is_left_to_the_process_that_holds_the_lock(tmp_path: Path, caplog):
    stage_store = ArtifactStore(tmp_path)
    artifact = stage_store.build(STAGE, builder)
    truncate(artifact.file("tokens.npy"))
    with stage_store._lock(STAGE):
        assert ArtifactStore(tmp_path).get(STAGE) is None
    assert "another process sees to it" in caplog.text
    assert artifact.path.exists()
