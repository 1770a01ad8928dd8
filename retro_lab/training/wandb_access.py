"""Decides whether W&B logs online, offline or not at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache
from http.client import HTTPException
from ssl import SSLError
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from retro_lab.config.errors import UserError
from retro_lab.config.schema import WandbMode

if TYPE_CHECKING:
    from wandb import Settings

LOG = logging.getLogger(__name__)
SERVER_TIMEOUT = 5.0  # seconds to wait for the server

# Set by `wandb agent` for the run that it expects. W&B must not read them, or it would log every
# run of this process, the baseline too, into that one.
_AGENT_VARIABLES = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")


class Access(Enum):
    """Mode of W&B logging."""

    online = "online"
    offline = "offline"
    disabled = "disabled"


@dataclass(frozen=True)
class Agent:
    """The sweep and the run that a `wandb agent` started this process for."""

    sweep_id: str
    run_id: str

    @classmethod
    def of_environment(cls) -> Agent | None:
        """The agent that started this process; None without one."""
        sweep_id, run_id = (os.environ.get(name) for name in _AGENT_VARIABLES[:2])
        return cls(sweep_id, run_id) if sweep_id and run_id else None


def own_settings() -> Settings:
    """W&B's settings from its files and the environment, without a `wandb agent`'s variables.

    Raises:
        UserError: W&B rejects a setting.
    """
    import wandb

    with _without(_AGENT_VARIABLES):
        try:
            return wandb.setup(wandb.Settings(silent=True)).settings
        except ValueError as error:  # pydantic's
            raise UserError(
                f"W&B refuses its own settings: {error}",
                fix="correct that WANDB_ variable or wandb/settings file, or use logger=none",
            ) from error


@cache
def reachable(url: str) -> bool:
    """Whether a server answers at `url`, asked once a process; uses the environment's proxies."""
    try:
        urlopen(Request(url, method="HEAD"), timeout=SERVER_TIMEOUT).close()
    except (HTTPError, HTTPException):
        return True
    except URLError as error:
        return isinstance(error.reason, SSLError)  # wandb has certificates of its own
    except (OSError, ValueError):
        return False
    return True


def logged_in() -> bool:
    """Whether W&B finds stored credentials, without a prompt and without checking them online."""
    import wandb

    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.Error as error:
        LOG.warning("W&B refuses the login of this machine: %s", error)
        return False


def access(
    asked: WandbMode,
    settings: Settings,
    *,
    login: Callable[[], bool] = logged_in,
    server: Callable[[str], bool] = reachable,
) -> Access:
    """The logging mode, from the configuration, W&B's settings, login and server.

    Args:
        asked: `logger.wandb.mode`.
        settings: W&B's own.
        login: returns whether credentials are found.
        server: returns whether the server at an address answers.

    Raises:
        UserError: for `mode=online` without a login or a server.
    """
    if settings.mode == "disabled":
        return Access.disabled
    if asked is WandbMode.offline or settings.mode in ("offline", "dryrun"):
        return Access.offline
    if not login():
        if asked is WandbMode.online:
            raise UserError(
                "logger.wandb.mode=online, but this machine has no W&B login that is valid",
                fix="run `wandb login`, set WANDB_API_KEY, or leave the mode at auto",
            )
        return Access.offline
    if not server(settings.base_url):
        if asked is WandbMode.online:
            raise UserError(
                f"logger.wandb.mode=online, but the W&B server {settings.base_url} cannot be "
                "reached",
                fix="logger.wandb.mode=auto logs offline until `wandb sync`; or correct "
                "WANDB_BASE_URL",
            )
        _warn_once(settings.base_url)
        return Access.offline
    return Access.online


@cache
def _warn_once(url: str) -> None:
    """Warns once a process, which may log several runs."""
    LOG.warning(
        "the W&B server %s cannot be reached, so runs are logged offline; `wandb sync` uploads "
        "them later",
        url,
    )


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
