"""Contract: a record of a run that was cut short or edited is named, never a traceback; a start
from nothing takes away what was before in an order that survives a death at any moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from composed import config_of
from dying import DEAD, die_at, in_a_child

from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config
from retro_lab.run.directory import RunDirectory


@pytest.mark.parametrize(("name", "asked"), [("status.json", "state"), ("lineage.json", "lineage")])
@pytest.mark.parametrize("content", ["", '{"sta', "\x00\x00", "[]", "null", "3", '{"state": 1}'])
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
    run.describe(config_of(f"store.dir={stored.format(here=tmp_path)}"))
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
    run.describe(config_of(f"store.dir={tmp_path}/other"))
    (tmp_path / "other/locks").mkdir(parents=True)
    monkeypatch.setenv("RETRO_LAB_STORE", "/mine")
    assert run.config().store.dir == "/mine"


def test_a_store_is_not_made_where_a_link_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RETRO_LAB_STORE", raising=False)
    run = RunDirectory(tmp_path / "runs" / "a-run")
    run.describe(config_of())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs/.store").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        run.config()
    (tmp_path / "elsewhere/locks").mkdir()
    assert run.config().store.dir == str(tmp_path / "runs/.store")


@pytest.mark.parametrize(
    "content",
    [
        '{"state": "done", "seconds": {}}',
        '{"state": "trained"}',
        '{"state": "trained", "seconds": [1]}',
        '{"state": "trained", "seconds": {"training": "long"}}',
    ],
)
def test_an_odd_status_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(content)
    run = RunDirectory(tmp_path)
    for ask in (lambda: run.state, lambda: run.reached("trained"), lambda: run.enter("finished")):
        with pytest.raises(UserError, match=r"status\.json is damaged"):
            ask()


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("status.json", lambda run: run.state),
        ("lineage.json", lambda run: run.lineage),
        ("planted.json", lambda run: run.planted),
    ],
)
def test_a_record_that_was_changed_is_named(
    name: str, ask: Callable[[RunDirectory], object], tmp_path: Path
) -> None:
    """Also where it is still of the right form."""
    run = RunDirectory(tmp_path)
    run.enter("trained", training=12.5)
    run.record_lineage({"chunks": "0123"})
    run.record_planted({"halves": 1})
    assert ask(run)
    written = (tmp_path / name).read_text()
    (tmp_path / name).write_text(written.replace("12.5", "13.5").replace("1", "2"))
    with pytest.raises(UserError, match=f"{name} is damaged"):
        ask(run)


def test_what_is_known_already_is_not_written_again(tmp_path: Path) -> None:
    """So that the data of a run in a directory that can only be read is checked all the same."""
    run = RunDirectory(tmp_path)
    run.check_lineage({"chunks": "0123"})
    before = (tmp_path / "lineage.json").stat()
    run.check_lineage({"chunks": "0123"})
    after = (tmp_path / "lineage.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "model: {schema: 3}", "\x00", "seed: x"])
def test_an_odd_configuration_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml is not a configuration"):
        RunDirectory(tmp_path).config()


def finished_run(folder: Path, config: Config) -> RunDirectory:
    """With weights and results, as far as files go."""
    run = RunDirectory(folder)
    run.describe(config)
    (folder / "checkpoints").mkdir()
    for name in ("checkpoints/last.ckpt", "checkpoints/best.ckpt", *OLD):
        (folder / name).write_text("old")
    run.record_evaluation({"split": "test"})
    run.enter("finished", training=3.0)
    return run


OLD = ("results.json", "chunks.parquet", "rivals.json", "qa.json", "metrics.jsonl")


def test_a_death_while_it_starts_again_leaves_nothing_without_its_weights(tmp_path: Path) -> None:
    config, last = config_of(), None
    before = finished_run(tmp_path / "before", config)
    for number in range(1, 200):
        run = RunDirectory(shutil.copytree(before.path, tmp_path / str(number)))

        def begin(run: RunDirectory = run, number: int = number) -> None:
            die_at(number, run.path)
            run.begin(config, anew=True)

        code = in_a_child(begin)
        weights = (run.path / "checkpoints" / "last.ckpt").exists()
        assert weights or not run.reached("training")
        assert run.config_file.read_bytes() == before.config_file.read_bytes()
        if code != DEAD:
            last = run
            break
    assert last is not None
    assert code == 0
    assert (last.state, last.evaluation) == ("new", None)
    assert not (last.path / "checkpoints" / "best.ckpt").exists()
    assert not (last.path / "rivals.json").exists()
    assert (last.path / "metrics.jsonl").exists()  # curves go when the first new ones are written


def test_going_on_from_a_checkpoint_keeps_what_was_measured(tmp_path: Path) -> None:
    """As where only the status was lost."""
    config = config_of()
    run = finished_run(tmp_path / "run", config)
    (run.path / "status.json").unlink()
    run.begin(config, anew=False)
    assert all((run.path / name).exists() for name in ("checkpoints/last.ckpt", *OLD))
    assert run.evaluation == {"split": "test"}


def test_an_edited_configuration_is_obeyed_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDirectory(tmp_path / "runs" / "edited")
    run.describe(config_of("seed=1", f"runs_dir={tmp_path / 'runs'}"))
    assert run.config().seed == 1
    assert caplog.messages == []
    run.config_file.write_text(run.config_file.read_text().replace("seed: 1", "seed: 7", 1))
    assert run.config().seed == run.config().seed == 7
    assert [message.partition(";")[0] for message in caplog.messages] == [
        f"{run.config_file} was changed after the run wrote it"
    ]
