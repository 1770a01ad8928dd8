"""Contract: a record of a run that was cut short or edited is named, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from retro_lab.app.run_directory import RunDirectory
from retro_lab.config.compose import load_config
from retro_lab.config.errors import UserError


@pytest.mark.parametrize(("name", "asked"), [("status.json", "state"), ("lineage.json", "lineage")])
@pytest.mark.parametrize("content", ["", '{"sta', "\x00\x00"])
def test_a_damaged_record_is_named(name: str, asked: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{name} is damaged") as caught:
        getattr(RunDirectory(tmp_path), asked)
    assert "train.py" in str(caught.value.fix)


def test_a_record_that_is_not_there_is_that_of_a_new_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert (run.state, run.lineage, run.evaluation) == ("new", {}, None)


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ("runs/.store", "{here}/runs/.store"),
        ("{here}/own/store", "{here}/own/store"),
        ("runs/no", "{here}/runs/.store"),
        ("runs/../elsewhere", "{here}/runs/.store"),
        ("{here}/elsewhere", "{here}/runs/.store"),
        ("/etc", "{here}/runs/.store"),
        (".", "{here}/runs/.store"),
    ],
)
@pytest.mark.parametrize("made", [True, False])
def test_a_run_names_no_folder_to_write_into_that_is_no_store(
    stored: str, found: str, made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RETRO_LAB_STORE", raising=False)
    run = RunDirectory(tmp_path / "runs" / "a-run")
    run.describe(load_config([f"store.dir={stored.format(here=tmp_path)}"]))
    for store in ("runs/.store", "own/store") if made else ("own/store",):
        (tmp_path / store / "locks").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = run.config()
    assert config.store.dir == found.format(here=tmp_path)
    assert config.runs_dir == str(tmp_path / "runs")


def test_the_users_own_store_goes_before_what_a_run_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(tmp_path / "a-run")
    run.describe(load_config([f"store.dir={tmp_path}/other"]))
    (tmp_path / "other/locks").mkdir(parents=True)
    monkeypatch.setenv("RETRO_LAB_STORE", "/mine")
    assert run.config().store.dir == "/mine"


def test_a_store_is_not_made_where_a_link_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RETRO_LAB_STORE", raising=False)
    run = RunDirectory(tmp_path / "runs" / "a-run")
    run.describe(load_config([]))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs/.store").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        run.config()
    (tmp_path / "elsewhere/locks").mkdir()
    assert run.config().store.dir == str(tmp_path / "runs/.store")
