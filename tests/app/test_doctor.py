"""Contract: `doctor` says what is there, and removes nothing where it may have been misled."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from retro_lab.commands.doctor import main
from retro_lab.store import ArtifactStore, Stage, Workspace, lineage

NEEDED, OTHER = (Stage("corpus", 1, {"of": name}, {}) for name in ("a run", "nobody"))


def _write(workspace: Workspace) -> None:
    (workspace.path / "a").write_text("text")


@pytest.fixture(autouse=True)
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    """Two stages in runs/.store below the working directory, and a run that needs one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RETRO_LAB_STORE", raising=False)
    store = ArtifactStore(Path("runs/.store"))
    for stage in (NEEDED, OTHER):
        store.build(stage, _write)
    run = Path("runs/a-run")
    run.mkdir()
    (run / "lineage.json").write_bytes(orjson.dumps(lineage(NEEDED)))
    return store


def test_it_collects_what_no_run_needs_and_only_if_told_to(
    stored: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--collect"]) == 0
    assert f"{OTHER}: " in capsys.readouterr().out
    assert stored.get(OTHER) is not None
    assert main(["--collect", "--yes"]) == 0
    assert (stored.get(NEEDED) is None, stored.get(OTHER) is None) == (False, True)


@pytest.mark.parametrize(
    "argv", [["runs=ruins"], ["runs=ruins", "store=runs/.store"], ["store=elsewhere"]]
)
def test_a_folder_that_is_not_there_is_an_error_and_nothing_goes(
    stored: ArtifactStore, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, "--collect", "--yes"]) == 2
    told = capsys.readouterr()
    assert f"error: {argv[0] if 'runs=' in argv[0] else argv[-1]}: there is no such" in told.err
    assert "intact" not in told.out
    assert stored.get(NEEDED) is not None


def test_a_run_whose_lineage_is_damaged_keeps_all_that_is_stored(
    stored: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("runs/a-run/lineage.json").write_text('{"cor')
    assert main(["--collect", "--yes"]) == 2
    assert "error: runs/a-run/lineage.json is damaged" in capsys.readouterr().err
    assert None not in (stored.get(NEEDED), stored.get(OTHER))


def test_runs_elsewhere_than_the_working_directory_are_not_taken_for_none(
    stored: ArtifactStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A shared store, and a user who stands in the wrong folder."""
    (tmp_path / "wrong").mkdir()
    monkeypatch.chdir(tmp_path / "wrong")
    monkeypatch.setenv("RETRO_LAB_STORE", str(tmp_path / "runs/.store"))
    assert main(["--collect", "--yes"]) == 2
    assert "error: runs=runs: there is no such folder" in capsys.readouterr().err
    assert ArtifactStore(tmp_path / "runs/.store").get(NEEDED) is not None


def test_before_the_first_run_there_is_nothing_to_complain_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    assert main([]) == 0
    assert "runs/.store: nothing is stored yet" in capsys.readouterr().out
