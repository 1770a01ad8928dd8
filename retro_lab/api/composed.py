"""Configurations from overrides, as on a command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retro_lab.config.compose import compose_root, to_typed
from retro_lab.config.explain import explain, uncomposed
from retro_lab.config.fingerprints import canonical
from retro_lab.config.rules import check
from retro_lab.config.schema import SCHEMAS, Config


def composed(command: str, overrides: Sequence[str]) -> Any:
    """The typed configuration of a command; of `train` checked and canonical.

    Args:
        command: `train` or `evaluate`.
        overrides: `key=value`.

    Raises:
        UserError: an override is misspelled or invalid, or breaks a rule.
    """
    try:
        config = to_typed(compose_root(command, overrides), SCHEMAS[command])
    except Exception as error:
        raise explain(error) or uncomposed(error, command, overrides) from error
    if not isinstance(config, Config):
        return config
    check(config)
    return canonical(config)
