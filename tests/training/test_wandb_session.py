"""Contract: a run in W&B has an id that is found again, a group that all it is compared with share,
tags and notes of both sides, no passwords; and it is logged offline where the server won't take it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import wandb
from composed import config_of

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import baseline_of, run_key
from retro_lab.config.schema import HttpRetrieverConfig, WandbConfig, WandbMode
from retro_lab.training.wandb_access import Access, Agent
from retro_lab.training.wandb_run import RECORD, RunIdentity, group_of, init_arguments, start

IDENTITY = RunIdentity("0123456789abcdef", "tiny-bm25", "retro", "python-tiny-123", {"seed": 1})
NOTHING: Any = SimpleNamespace(
    project=None, entity=None, run_group=None, run_notes=None, run_tags=None, mode="online"
)


def settings(**changes: Any) -> Any:
    return SimpleNamespace(**{**vars(NOTHING), **changes})


def arguments(
    folder: Path, config: WandbConfig | None = None, identity: RunIdentity = IDENTITY, **more: Any
) -> dict[str, Any]:
    options = {"settings": NOTHING, "decided": Access.offline, "resume": False} | more
    return init_arguments(config or WandbConfig(), folder, identity, **options)


def test_the_id_is_short_and_that_of_the_directory(tmp_path: Path) -> None:
    config = config_of()
    identity = RunIdentity.of(config, "run", run_key(config), lineage={})
    assert arguments(tmp_path, identity=identity)["id"] == run_key(config)[:8]


@pytest.mark.parametrize("mode", [Access.offline, Access.online])
def test_a_run_goes_on_where_it_was_begun(tmp_path: Path, mode: Access) -> None:
    """Also in another shell, with other settings of W&B."""
    record = {"id": "agentrun", "project": "p", "entity": "e", "job_type": "plain"}
    (tmp_path / RECORD).write_bytes(orjson.dumps(record))
    found = arguments(tmp_path, settings=settings(project="other"), decided=mode, resume=True)
    assert {name: found[name] for name in record} == record
    assert found["resume"] == "allow"


def test_a_run_that_begins_anew_replaces_the_old_one(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_bytes(orjson.dumps({"id": "agentrun", "project": "p"}))
    found = arguments(tmp_path)
    assert (found["id"], found["project"], found["resume"]) == ("01234567", "retro_lab", None)


def test_the_agents_run_is_the_asked_one(tmp_path: Path) -> None:
    agent = Agent("sweep1", "agentrun")
    asked = dataclasses.replace(IDENTITY, agent=agent)
    config = WandbConfig(project="mine", entity="me")
    own = settings(project="the-sweeps", entity="team")
    found = arguments(tmp_path, config, asked, settings=own)
    assert (found["id"], found["project"], found["entity"]) == ("agentrun", "the-sweeps", "team")
    assert found["settings"].sweep_id == "sweep1"
    baseline = arguments(tmp_path, config, settings=own)
    assert (baseline["id"], baseline["project"]) == ("01234567", "mine")
    assert baseline["settings"].sweep_id is None


def test_what_the_command_line_says_goes_before_wandbs_own(tmp_path: Path) -> None:
    own = settings(project="p", run_group="g", run_notes="n", run_tags=("x", "a"))
    found = arguments(tmp_path, settings=own)
    assert (found["project"], found["group"], found["notes"]) == ("p", "g", "n")
    mine = WandbConfig(project="mine", group="ours", notes="hello", tags=["a", "b"])
    found = arguments(tmp_path, mine, settings=own)
    assert (found["project"], found["group"], found["notes"]) == ("mine", "ours", "hello")
    assert found["tags"] == ["x", "a", "b"]


def test_a_group_is_the_data_and_the_size() -> None:
    retro = config_of("retriever=bm25")
    same = [baseline_of(retro), config_of("neighbours=k4"), config_of("seed=2", "schedule.steps=9")]
    others = [
        config_of("model.d_model=96"),
        config_of("corpus.max_bytes=1000"),
        config_of("tokenizer=byte"),
    ]
    assert {group_of(config) for config in same} == {group_of(retro)}
    assert group_of(retro).startswith("python-tiny-")
    assert len({group_of(config) for config in [retro, *others]}) == 4


def test_job_types_tell_a_run_from_what_it_is_compared_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "agentrun")
    retro = config_of("retriever=bm25")
    plain = RunIdentity.of(baseline_of(retro), "b", "key", lineage={}, companion="plain")
    asked = [RunIdentity.of(c, "r", "key", lineage={}) for c in (retro, baseline_of(retro))]
    assert [plain.job_type, *(identity.job_type for identity in asked)] == [
        "plain",
        "retro",
        "baseline",
    ]
    assert plain.agent is None
    assert {identity.agent for identity in asked} == {Agent("sweep1", "agentrun")}


def test_the_whole_configuration_is_there_but_no_password() -> None:
    config = config_of("retriever=http", "retriever.url=https://me:secret@example.org/search")
    assert isinstance(config.retriever, HttpRetrieverConfig)
    given = {"lineage": {"corpus": "c1"}, "parameters": {"total": 7}}
    found = RunIdentity.of(config, "run", run_key(config), **given).config
    assert found is not None
    assert found["retriever"]["url"] == "https://example.org/search"
    assert found["optim"]["lr"] == config.optim.lr
    assert (found["lineage"], found["parameters"]) == ({"corpus": "c1"}, {"total": 7})
    assert found["run_key"] == run_key(config)


class Server:
    """Stands in for `wandb.init`: refuses runs that are online."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modes: list[str] = []

    def __call__(self, **arguments: Any) -> Any:
        self.modes.append(arguments["mode"])
        if arguments["mode"] == "online":
            (self.folder / "wandb" / "run-1-01234567").mkdir(parents=True)
            raise wandb.Error("401: no such user\nmore")
        return "the run"


def begin(folder: Path, server: Server, mode: WandbMode, access: Access) -> Any:
    config = WandbConfig(mode=mode)
    return start(
        config, folder, IDENTITY, begin=server, settings=NOTHING, how=lambda asked, own: access
    )


def test_a_server_that_does_not_take_the_run_makes_it_offline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(tmp_path)
    assert begin(tmp_path, server, WandbMode.auto, Access.online) == "the run"
    assert server.modes == ["online", "offline"]
    assert "401: no such user" in caplog.text
    assert not list(tmp_path.glob("wandb/run-*")), "the failed run's files are gone"


def test_online_that_the_server_does_not_take_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"did not take the run: 401: no such user\n"):
        begin(tmp_path, Server(tmp_path), WandbMode.online, Access.online)


def test_disabled_begins_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path)
    assert begin(tmp_path, server, WandbMode.auto, Access.disabled) is None
    assert server.modes == []
    assert not list(tmp_path.iterdir())
