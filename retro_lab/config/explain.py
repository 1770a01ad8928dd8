"""Turns exceptions of Hydra and OmegaConf into messages with the full key and a fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from .errors import UserError, chain
from .keys import bad_value, groups, options, unknown_key

# Parts of Hydra 1.3's messages; tests/config/test_explain.py fails when they change.
_COULD_NOT_OVERRIDE = re.compile(r"Could not override '([^']+)'")
_NO_SUCH_GROUP = re.compile(r"config group '([^']+)' does not exist")
_IN_FILE = re.compile(r"In '([^']+)': \w+ raised while composing config")
_MERGING = re.compile(r"Error merging override (.+)")
_NEEDS_MULTIRUN = re.compile(r"(?:Ambiguous value for argument|Sweep parameters) '(.+)'")
_NO_CHOICE = re.compile(r"Error resolving interpolation '(.+?)'")
_EXISTS = re.compile(r"An item is already at '([^']+)'")
_PARSER_FRAME = ("Error parsing override", "See https:")
# Options of plugins that an extra installs.
_PLUGINS = {
    "hydra/launcher": {
        "submitit_slurm": "cluster",
        "submitit_local": "cluster",
        "joblib": "cluster",
        "ray": "ray-launcher",
    },
}
# Options named after a number, and the key that takes any number.
_NUMBERED = {"chunking": ("m", "chunking.chunk_size"), "neighbours": ("k", "neighbours.k")}
_NO_RETRIEVAL = ("cca=none", "neighbours=none", "neighbours=k0")
_ONE_FLAG = "Only one of --run, --multirun, --cfg"
_NULL_GROUP = "Config group override must be a string or a list"
# Groups without a default option, and how to choose one.
_NOT_CHOSEN = {
    "train": {
        "recipe.optim": "optim@recipe.optim=adamw, or set recipe.lr, the second phase's rate",
        "callbacks.early_stopping": "callbacks=[early_stopping]",
        "logger.wandb": "wandb to the list logger=[...]",
        "logger.csv": "csv to the list logger=[...]",
        "logger.tensorboard": "tensorboard to the list logger=[...]",
    },
    "evaluate": {
        "database": "database=train, or another option",
        "plain": "plain=tokens, or another option",
        "trainer": "trainer=cpu, or another option",
    },
}

# Hydra's own groups that fail if a value overwrites their node.
_CHOSEN_BY_NAME = ("hydra.sweeper", "hydra.launcher")


def explain(error: BaseException, overrides: Sequence[str] = ()) -> UserError | None:
    """The user's mistake behind an exception; None if the configuration is not its cause.

    Args:
        overrides: the arguments, to name the one that a library's message leaves out.
    """
    links = list(chain(error))
    for link in links:
        if isinstance(link, UserError):
            return link
    for link in links:
        found = _by_message(str(link), overrides) or _by_type(link, links)
        if found is not None:
            return found
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return UserError(str(error).strip())
    return None


def _by_message(text: str, overrides: Sequence[str]) -> UserError | None:
    if match := _COULD_NOT_OVERRIDE.search(text) or _NO_SUCH_GROUP.search(text):
        return unknown_key(match[1])
    if match := _NEEDS_MULTIRUN.search(text):
        key, _, value = match[1].partition("=")
        fix = "add -m to train once for each, or write a list as key=[a,b]"
        if "." in key:  # a group takes only option names
            fix += f"; one value with commas in it is quoted twice: \"{key}='{value}'\""
        return UserError(f"{match[1]} has several values for one run", fix=fix)
    if match := _EXISTS.search(text):
        return UserError(f"{match[1]} exists already", fix="leave out the leading +")
    if match := _NO_CHOICE.search(text):
        chosen = [o for o in overrides if o.partition("=")[2].strip("'\"") == match[1]]
        return UserError(
            f"{chosen[0] if chosen else match[1]}: {match[1]} is no option's name, where the "
            "option of a group is chosen",
            fix="write the name, or ${<group>} for the name that is chosen in another group",
        )
    if _ONE_FLAG in text:
        return UserError(
            "-m (--multirun), --cfg and --info don't go together",
            fix="leave out -m to look at a configuration, one value a key",
        )
    if _NULL_GROUP in text:
        return UserError(
            "a group takes the name of an option, not null",
            fix="choose the option that means nothing, as retriever=none or logger=none",
        )
    return None


def _by_type(error: BaseException, chain: list[BaseException]) -> UserError | None:
    if isinstance(error, OverrideParseException):
        lines = str(error).splitlines()
        said = next((line for line in lines if not line.startswith(_PARSER_FRAME)), lines[0])
        return UserError(
            f"cannot read the argument {error.override!r}: {said}",
            fix="write key=value, and quote a value with special characters: 'key=\"a=b,c\"'",
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_option(error.missing_cfg_file)
    if not isinstance(error, OmegaConfBaseException) or not error.full_key:
        return None
    if isinstance(error, MissingMandatoryValue):
        return UserError(
            f"{error.full_key} has no value and needs one", fix=f"add {error.full_key}=<value>"
        )
    place = _place(chain)
    said = str(error.msg or error).splitlines()[0]
    if isinstance(error, InterpolationResolutionError):
        return UserError(f"{error.full_key}{place}: {said}")
    if isinstance(error, (ConfigAttributeError, ConfigKeyError)):
        return unknown_key(error.full_key, place)
    given = next((m[1] for link in chain if (m := _MERGING.search(str(link)))), error.full_key)
    return bad_value(error.full_key, given, said, place)


def _unknown_option(path: str) -> UserError:
    group, _, option = path.rpartition("/")
    if extra := _PLUGINS.get(group, {}).get(option):
        return UserError(
            f"{group}={option} is a plugin of Hydra that isn't installed",
            fix=f'pip install -e ".[{extra}]"',
        )
    names = options(group)
    if not group or not names:
        return UserError(f"there is no configuration {path}.yaml")
    near = difflib.get_close_matches(option, names, n=1)
    fix = f"did you mean {group}={near[0]}?" if near else f"choose one: {group}={names[0]}, ..."
    letter, key = _NUMBERED.get(group, ("", ""))
    if f"{group}={option}" in _NO_RETRIEVAL:
        fix = "retriever=none is the model that reads nothing"
    elif key and (match := re.fullmatch(rf"{letter}([1-9]\d*)", option)):
        fix = f"{key}={match[1]}"
    return UserError(
        f"{group}={option}: there is no such option; options of {group}: {', '.join(names)}",
        fix=fix,
    )


def _place(chain: list[BaseException]) -> str:
    """The YAML file that holds the mistake, as " (in x.yaml)"; empty for the command line."""
    for link in chain:
        if match := _IN_FILE.search(str(link)):
            return f" (in {match[1]}.yaml)"
    return ""


def uncomposed(error: Exception, command: str, overrides: Sequence[str]) -> UserError:
    """The message for arguments that could not be composed.

    Args:
        error: an exception that `explain` does not handle.
        command: "train" or "evaluate".
        overrides: the arguments.
    """
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        node = next((n for n in _NOT_CHOSEN[command] if key.startswith(f"{n}.")), None)
        if isinstance(error, AssertionError) and node is not None:
            return UserError(
                f"{override}: no option of {node} is chosen, so it has no such key",
                fix=f"add {_NOT_CHOSEN[command][node]}",
            )
        if key in _CHOSEN_BY_NAME:
            group = key.replace(".", "/")
            return UserError(
                f"{override}: {key} holds settings; it is chosen as {group}",
                fix=f"{group}=basic, or another option",
            )
        if key in groups() and value.startswith(("[", "{")):
            names = options(key)
            return UserError(
                f"{override}: options of {key} are names: {', '.join(names)}",
                fix=f"{key}={names[0]}",
            )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"cannot compose a configuration from {' '.join(overrides)}: {reason}",
        fix="write key=value; --cfg job shows the keys there are",
    )
