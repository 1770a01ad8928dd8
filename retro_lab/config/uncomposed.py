"""Mistakes at which Hydra and OmegaConf break down instead of saying what is wrong."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import UserError
from .paths import groups, options

# Groups of which no option is chosen by default, and how one is chosen.
_NOT_CHOSEN = {
    "train": {
        "recipe.optim": "optim@recipe.optim=adamw, or set recipe.lr, the second phase's rate",
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


def uncomposed(error: Exception, command: str, overrides: Sequence[str]) -> UserError:
    """The message for arguments that could not be composed, whatever Hydra raised.

    Args:
        error: neither Hydra's nor OmegaConf's own; `explain` knows those.
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
