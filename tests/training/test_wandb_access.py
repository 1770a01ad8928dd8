"""Contract: W&B's own settings go before ours, nothing asks for a login, and a server that is not
there makes a run offline, or one message where it must be online.
"""

from __future__ import annotations

import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from wandb_files import without_login

from retro_lab.config.errors import UserError
from retro_lab.config.schema import WandbMode
from retro_lab.training.wandb_access import (
    Access,
    Agent,
    access,
    logged_in,
    own_settings,
    reachable,
)

AUTO, ONLINE, OFFLINE = WandbMode.auto, WandbMode.online, WandbMode.offline


def decide(
    asked: WandbMode, mode: str = "online", *, login: bool = True, server: bool = True
) -> Access:
    settings: Any = SimpleNamespace(mode=mode, base_url="http://example.org")
    return access(asked, settings, login=lambda: login, server=lambda url: server)


@pytest.mark.parametrize("asked", WandbMode)
def test_disabled_is_disabled_and_asks_nothing(asked: WandbMode) -> None:
    assert decide(asked, "disabled", login=False, server=False) is Access.disabled


@pytest.mark.parametrize("mode", ["offline", "dryrun"])
@pytest.mark.parametrize("asked", WandbMode)
def test_wandbs_own_offline_goes_before_ours(asked: WandbMode, mode: str) -> None:
    assert decide(asked, mode) is Access.offline


def test_a_login_and_a_server_are_online_unless_offline_is_asked_for() -> None:
    assert decide(AUTO) is decide(ONLINE) is Access.online
    assert decide(OFFLINE) is Access.offline


def test_auto_without_a_login_is_offline() -> None:
    assert decide(AUTO, login=False) is Access.offline


def test_auto_without_a_server_is_offline_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert decide(AUTO, server=False) is Access.offline
    assert "http://example.org cannot be reached" in caplog.text
    assert "wandb sync" in caplog.text


@pytest.mark.parametrize(
    ("missing", "words"), [("login", "no W&B login"), ("server", "cannot be reached")]
)
def test_online_that_cannot_be_is_one_message(missing: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        decide(ONLINE, **{missing: False})
    assert raised.value.message.startswith("logger.wandb.mode=online")
    assert raised.value.fix


def test_where_nothing_listens_nothing_is_reachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, and not listening
        assert not reachable(f"http://127.0.0.1:{free.getsockname()[1]}")
    assert not reachable("no address")


def test_any_answer_is_one() -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(503)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        assert reachable(f"http://127.0.0.1:{server.server_port}")
    finally:
        thread.join()
        server.server_close()


def test_the_setting_that_wandb_offline_writes_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    monkeypatch.chdir(tmp_path)
    with without_login(tmp_path):
        assert own_settings().mode == "offline"


def test_a_wrong_setting_of_wandb_is_one_message(tmp_path: Path) -> None:
    with without_login(tmp_path) as environment:
        environment.setenv("WANDB_MODE", "of-line")
        wandb.teardown()
        with pytest.raises(UserError, match="W&B refuses its own settings"):
            own_settings()


def test_a_login_is_found_without_asking(tmp_path: Path) -> None:
    with without_login(tmp_path):
        own_settings()
        assert not logged_in()
        (tmp_path / ".netrc").write_text("machine example.org login user password none\n")
        assert not logged_in()
        host = own_settings().base_url.removeprefix("https://")
        (tmp_path / ".netrc").write_text(f"machine {host} login user password {'0' * 40}\n")
        assert logged_in()


def test_only_the_asked_run_learns_of_an_agent(tmp_path: Path) -> None:
    with without_login(tmp_path) as environment:
        assert Agent.of_environment() is None
        environment.setenv("WANDB_SWEEP_ID", "sweep1")
        environment.setenv("WANDB_RUN_ID", "agentrun")
        assert Agent.of_environment() == Agent("sweep1", "agentrun")
        found = own_settings()
        assert (found.sweep_id, found.run_id) == (None, None)
        assert os.environ["WANDB_SWEEP_ID"] == "sweep1", "it is hidden for a moment only"
