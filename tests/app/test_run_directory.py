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
    [("runs/.store", "{here}/runs/.store"), ("other/store", "other/store"), ("runs/no", "runs/no")],
)
def test_the_store_beside_a_run_is_its_own_wherever_the_user_stands(
    stored: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(tmp_path / "runs" / "a-run")
    run.describe(load_config([f"store.dir={stored}"]))
    (tmp_path / "runs/.store").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.config().store.dir == found.format(here=tmp_path)
