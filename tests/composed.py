"""Configurations for tests that are not about composing, which takes Hydra a third of a second."""

from __future__ import annotations

from functools import cache

from omegaconf import DictConfig, OmegaConf

from retro_lab.config.compose import compose_root, to_config
from retro_lab.config.keys import conf_dir, groups, options
from retro_lab.config.schema import SCHEMAS, Config


def config_of(*overrides: str) -> Config:
    """`load_config`, many times as fast: tests/config/test_options.py compares them.

    Hydra composes the defaults and what reaches beyond a group, once a process. Options of single
    groups are read from their files and put in place, and values are set on a copy.
    """
    chosen = {item: item.lstrip("+").partition("=")[0].partition("@")[0] for item in overrides}
    choices = [item for item, group in chosen.items() if group in groups()]
    values = [item for item in overrides if item not in choices]
    last = {item.partition("=")[0]: item for item in choices}  # as Hydra: the last one counts
    root = _root(tuple(sorted(last.values())))
    return to_config(OmegaConf.merge(root, OmegaConf.from_dotlist(values)))


def read_alone(group: str, option: str) -> DictConfig | None:
    """An option whose file says nothing about other groups, with its schema; else None."""
    if group not in groups() or option not in options(group):
        return None
    return _read_alone(group, option)


@cache
def _read_alone(group: str, option: str) -> DictConfig | None:
    path = conf_dir() / group / f"{option}.yaml"
    own = OmegaConf.load(path)
    assert isinstance(own, DictConfig)
    defaults = own.pop("defaults", [])
    if "@package" in path.read_text() or not defaults:
        return None
    base, *rest = defaults
    if rest != ["_self_"]:
        return None
    schema, _, place = base.removeprefix("/schema/").partition("@")
    if place == "_here_":
        node = OmegaConf.structured(SCHEMAS[schema])
    elif place or (node := read_alone(group, base)) is None:
        return None
    found = OmegaConf.merge(node, own)
    assert isinstance(found, DictConfig)
    return found


@cache
def _root(choices: tuple[str, ...]) -> DictConfig:
    """The root of these options; Hydra composes those of which a file doesn't say all.

    One is `corpus@database.corpora.books=python`, and with it the option of `database`.
    """
    chosen = {item: item.partition("=") for item in choices}
    filled = {key.partition("@")[2].partition(".")[0] for key, _, _ in chosen.values()}
    alone = {
        item: None if group in filled else read_alone(group, option)
        for item, (group, _, option) in chosen.items()
    }
    beyond = tuple(item for item in choices if alone[item] is None)
    root, defaults = _composed(beyond), _composed(())
    groups_alone = [chosen[item][0] for item in choices if item not in beyond]
    if any(_plain(root, group) != _plain(defaults, group) for group in groups_alone):
        return _composed(choices)  # an option like debug=fast has values for the group as well
    root = root.copy()
    for item, node in alone.items():
        if node is not None:
            root[chosen[item][0]] = node
    return root


def _plain(root: DictConfig, group: str) -> object:
    return OmegaConf.to_container(OmegaConf.masked_copy(root, [group]), resolve=False)


@cache
def _composed(choices: tuple[str, ...]) -> DictConfig:
    root = compose_root("train", choices)
    return OmegaConf.masked_copy(root, [key for key in root if key != "hydra"])
