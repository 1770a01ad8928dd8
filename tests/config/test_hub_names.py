"""Contract: the name of a pretrained model that is a missing path is refused without asking the
hub, and without a network the hub is asked once, not again and again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from retro_lab.config.backbone import check_name
from retro_lab.config.errors import UserError
from retro_lab.huggingface.backbones import read_config
from retro_lab.text.tokenizers.huggingface import load_source

HTTP: Any = sys.modules[type(huggingface_hub.get_session()).__module__.partition(".")[0]]  # httpx


class Hub:
    """What the hub's client gets for an answer, and the addresses that it asked for.

    Attributes:
        status: of each answer; None if there is no network.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.asked: list[str] = []

    def answer(self, request: Any) -> Any:
        self.asked.append(str(request.url))
        if self.status is None:
            raise HTTP.ConnectError("Name or service not known", request=request)
        return HTTP.Response(self.status, request=request)


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    client = HTTP.Client(transport=HTTP.MockTransport(made.answer))
    huggingface_hub.set_client_factory(lambda: client)
    yield made
    huggingface_hub.set_client_factory(lambda: HTTP.Client(follow_redirects=True, timeout=None))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "~/nowhere", "models/", "a/b/c"])
def test_what_looks_like_a_path_is_not_asked_for(hub: Hub, name: str) -> None:
    with pytest.raises(UserError) as caught:
        check_name("recipe.backbone", name)
    assert f"recipe.backbone={name} can't be loaded: there is no such folder" in str(caught.value)
    assert hub.asked == []


@pytest.mark.parametrize("name", ["gpt2", "owner/model"])
def test_without_network_the_hub_is_asked_once(hub: Hub, name: str) -> None:
    with pytest.raises(UserError) as caught:
        read_config(name)
    assert f"recipe.backbone={name} is no folder or file here" in str(caught.value)
    assert "hub can't be reached: Name or service not known" in str(caught.value)
    with pytest.raises(UserError, match=f"tokenizer.path={name} is no folder or file here"):
        load_source(name)
    assert len(hub.asked) == 2


def test_what_the_hub_refuses_is_left_to_loading(hub: Hub) -> None:
    hub.status = 404
    check_name("recipe.backbone", "owner/model")
    check_name("recipe.backbone", "no hub name")
    assert len(hub.asked) == 1


def test_what_is_there_is_not_asked_for(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("owner/model").mkdir(parents=True)
    check_name("recipe.backbone", "owner/model")
    assert hub.asked == []
