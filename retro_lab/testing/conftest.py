"""The parts that the options of `plugin.py` name."""

from __future__ import annotations

from typing import TypeVar

import pytest
import yaml

from retro_lab.config.errors import EXIT_USER_ERROR, UserError
from retro_lab.config.parts import with_own_parts
from retro_lab.config.schema import OwnCorpusConfig, OwnEmbedderConfig, OwnPart, OwnRetrieverConfig
from retro_lab.retrieval.embed.embedders import Embedder, build_embedder
from retro_lab.retrieval.search.registry import build_retriever, load_retriever
from retro_lab.text.readers import Reader, build_reader

from .contracts import Search

P = TypeVar("P", bound=OwnPart)


@pytest.fixture(scope="session")
def search(pytestconfig: pytest.Config) -> Search:
    config = _part(pytestconfig, OwnRetrieverConfig)
    return Search.of(lambda: build_retriever(config), lambda folder: load_retriever(config, folder))


@pytest.fixture(scope="session")
def embedder(pytestconfig: pytest.Config) -> Embedder:
    return build_embedder(_part(pytestconfig, OwnEmbedderConfig))


@pytest.fixture(scope="session")
def reader(pytestconfig: pytest.Config) -> Reader:
    return build_reader(_part(pytestconfig, OwnCorpusConfig))


def _part(pytestconfig: pytest.Config, schema: type[P]) -> P:
    path = pytestconfig.getoption(f"--{schema.kind}")
    if path is None:
        pytest.skip(f"no --{schema.kind}=module:Class is given")
    pairs = [setting.partition("=") for setting in pytestconfig.getoption("--setting") or []]
    given = {name: yaml.safe_load(value) for name, _, value in pairs}
    try:
        return with_own_parts(schema(cls=path, settings=given))
    except UserError as error:
        pytest.exit(f"--{schema.kind}: {error}", EXIT_USER_ERROR)
