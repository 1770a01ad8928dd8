"""Contract: `doctor` finds all damage, and deletes only what nobody named or is building."""

from __future__ import annotations

from pathlib import Path

import pytest

from retro_lab.store import ArtifactStore, Stage, Workspace, collect_garbage, verify

CORPUS = Stage("corpus", 1, {}, {})
CHUNKS = Stage("chunks", 1, {}, {"corpus": CORPUS})
UNFINISHED = Stage("chunks", 2, {}, {"corpus": CORPUS})


def builder(workspace: Workspace) -> None:
    (workspace.path / "x.bin").write_bytes(b"0123456789")


def failing(workspace: Workspace) -> None:
    builder(workspace)
    raise RuntimeError


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path)
    store.build(CORPUS, builder)
    store.build(CHUNKS, builder)
    with pytest.raises(RuntimeError):
        store.build(UNFINISHED, failing)
    return store


def folders(store: ArtifactStore) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in store.root.glob("*/*") if path.is_dir()}


def named(stage: Stage) -> str:
    return f"{stage.name}/{stage.key}"


def test_an_intact_store_has_no_problems(store: ArtifactStore):
    assert verify(store.root) == []


def test_every_damaged_file_is_named(store: ArtifactStore):
    (store.folder(CHUNKS) / "x.bin").write_bytes(b"0123456780")
    (store.folder(CORPUS) / "manifest.json").unlink()
    problems = verify(store.root)
    assert {problem.line().split(" has")[0] for problem in problems} == {
        f"{named(CHUNKS)}: x.bin",
        f"{named(CORPUS)}: manifest.json is missing",
    }


def test_keeps_exactly_what_is_named(store: ArtifactStore):
    garbage = collect_garbage(store.root, {("corpus", CORPUS.key)}, dry_run=False)
    assert folders(store) == {named(CORPUS)}
    removed = {f"{item.path.parent.name}/{item.path.name}" for item in garbage.removed}
    assert removed == {named(CHUNKS), f"{named(UNFINISHED)}.partial"}
    assert garbage.freed_bytes == sum(item.bytes for item in garbage.removed) > 20
    assert store.get(CORPUS) is not None


def test_an_unfinished_build_that_is_named_stays_resumable(store: ArtifactStore):
    keep = {("corpus", CORPUS.key), ("chunks", CHUNKS.key), ("chunks", UNFINISHED.key)}
    assert collect_garbage(store.root, keep, dry_run=False).removed == []
    assert f"{named(UNFINISHED)}.partial" in folders(store)


def test_a_dry_run_only_lists(store: ArtifactStore):
    before = sorted(store.root.rglob("*"))
    planned = collect_garbage(store.root, set(), dry_run=True)
    assert sorted(store.root.rglob("*")) == before
    done = collect_garbage(store.root, set(), dry_run=False)
    assert planned == done
    assert folders(store) == set()


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_is_being_built_stays(store: ArtifactStore, dry_run: bool):
    def collecting(workspace: Workspace) -> None:
        garbage = collect_garbage(store.root, set(), dry_run=dry_run)
        assert [item.path.name for item in garbage.in_use] == [f"{UNFINISHED.key}.partial"]
        builder(workspace)

    assert store.build(UNFINISHED, collecting).file("x.bin").exists()


def test_an_interrupted_deletion_is_finished(store: ArtifactStore):
    half = store.folder(CHUNKS)
    half.rename(half.with_name(f"{half.name}.discarded-00"))
    keep = {("corpus", CORPUS.key), ("chunks", CHUNKS.key), ("chunks", UNFINISHED.key)}
    assert verify(store.root) == []
    [item] = collect_garbage(store.root, keep, dry_run=False).removed
    assert item.path.name == f"{CHUNKS.key}.discarded-00"


def test_foreign_folders_are_never_touched(store: ArtifactStore):
    for name in ("photos/2020", "chunks/notes", "My Data/0123456789abcdef"):
        (store.root / name).mkdir(parents=True)
    collect_garbage(store.root, set(), dry_run=False)
    assert folders(store) == {"photos/2020", "chunks/notes", "My Data/0123456789abcdef"}


def test_a_store_that_is_not_there_is_clean(tmp_path: Path):
    assert verify(tmp_path / "none") == []
    assert collect_garbage(tmp_path / "none", set(), dry_run=False).removed == []
