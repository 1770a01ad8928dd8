"""Odd command lines: each is a configuration, whole and the same when read back, or one message."""

from __future__ import annotations

import copy
import os
import random
import time
import traceback
from functools import cache

from fault_children import Child
from fault_counts import Counts, count_told, ending, tell
from fault_world import World
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

from retro_lab.__main__ import refusal  # that of every command
from retro_lab.commands.evaluate import main as evaluate
from retro_lab.config.compose import compose_root, to_config
from retro_lab.config.errors import refuse_passwords
from retro_lab.config.explain import explain, uncomposed
from retro_lab.config.fingerprints import canonical, run_name
from retro_lab.config.keys import groups, known_keys, options
from retro_lab.config.rules import check
from retro_lab.config.schema import Config
from retro_lab.config.serialise import from_plain, to_plain
from retro_lab.config.text_keys import as_typed

NUMBERS = ("0", "-1", "1", "2", "3", "7", "0.5", "1e-3", "1e9", "100000000000", "null", "true")
VALUES = (
    *("", "null", "true", "0", "-1", "1", "2", "3.5", "1e3", "1e-3", "1e11", "1e400", "-0.0"),
    *("nan", "inf", "-inf", "18446744073709551616", "9" * 40, "0x10", "1_000", "00", "१२"),
    *("[]", "[1,2]", "[1,[2]]", "[null]", "[nan]", "{}", "{a:1}", "[a,b]", "''", '""', "' '"),
    *("a b", "a,b", "é漢", "\u202e", "\x00", "\n", "\ud800", "a" * 5000, "'", '"', "\\", "#"),
    *("${seed}", "${nothing}", "${oc.env:HOME}", "${oc.env:NOT_SET}", "${", "$", "${now:}", "???"),
    *("../..", "/", "/dev/null", "~", "~root/x", ".", "*", "?", "[", "{", "(", "=", "a=b", "a:b"),
    *("range(1,3)", "choice(1,2)", "glob(*)", "sort(3,1)", "shuffle(1)", "int(x)", "str(1)"),
    *("2026-01-01", "1:30", "yes", "off", "None", "True", "!!python/object:os.system", "&a", "|"),
)
_PLAIN = 0.9  # share of the command lines without a change of groups, which compose much faster
_SLOW = 20.0


def odd_overrides(world: World, lines: int, seed: int = 0) -> list[Counts]:
    """A row over so many command lines of `train` and `evaluate`, read in a child."""
    counts = Counts("odd overrides", must_hit=frozenset({"train", "refused", "accepted"}))
    folder = world.folder / "overrides"
    folder.mkdir()

    def work() -> int:
        os.chdir(folder)
        for number in range(lines):
            tell(*_line(random.Random(f"{seed}-{number}")))
        return 0

    ended = Child(work).wait(patience=3600)
    read = count_told(ended.said, ("refused", "accepted"), counts)
    if read < lines:
        counts.found("tracebacks", f"line {read} ends all: {ending(ended.said)}")
    return [counts]


def _line(rng: random.Random) -> tuple[str, str, str]:
    """The command, what came of one line of it, and a sentence."""
    command = rng.choices(("train", "evaluate"), (9, 1))[0]
    overrides = draw_overrides(rng)
    story = f"{command} {overrides!r:.200}"
    start = time.monotonic()
    try:
        outcome, sentence = _came_of(command, overrides)
    except Exception as error:
        outcome, sentence = "refused", ""
        if explain(error) is None and refusal(error) is None:
            outcome, sentence = "tracebacks", ending(traceback.format_exc())
    if time.monotonic() - start > _SLOW:
        outcome, sentence = "lost", f"took more than {_SLOW:.0f} s"
    return command, outcome, f"{story}: {sentence}"


def _came_of(command: str, overrides: list[str]) -> tuple[str, str]:
    """`accepted`, `refused` or `wrong`, and why; raises what the command would raise."""
    if command == "evaluate":
        code = evaluate([*overrides, "run=no-such-run"])
        return ("refused" if code == 2 else "accepted"), ""
    try:
        root = _root(overrides)
    except Exception as error:
        if explain(error) is None and refusal(error) is None:
            uncomposed(error, command, overrides)
        return "refused", ""
    config = to_config(root)
    check(config)
    problem = not_the_same_again(canonical(config))
    return ("accepted", "") if problem is None else ("wrong", problem)


def not_the_same_again(config: Config) -> str | None:
    """What is wrong with a configuration that is written down and read again."""
    again = from_plain(to_plain(config))
    if again != config:
        return "config.yaml would be read back as another configuration"
    if run_name(again) != run_name(config):
        return "config.yaml would be read back as another run"
    return None


def draw_overrides(rng: random.Random) -> list[str]:
    """One to three odd arguments."""
    return [_draw(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]


def _draw(rng: random.Random) -> str:
    if rng.random() > _PLAIN:
        group = rng.choice(sorted(groups()))
        names = [*options(group), "none", "null", "nosuch"]
        return f"{rng.choice(('', '', '', '+', '~', '++'))}{group}={rng.choice(names)}"
    key = rng.choice(_names())
    kind = rng.random()
    if kind < 0.1:  # a typo
        place = rng.randrange(len(key))
        key = key[:place] + rng.choice(("", "x", ".", "é", " ", "/", "@")) + key[place + 1 :]
    elif kind < 0.15:
        key = f"{key}.{rng.choice(('x', '0', '_target_', '__class__'))}"
    elif kind < 0.2:
        key = key.rpartition(".")[0] or key
    sign = rng.choice((*[""] * 12, "+", "++", "~"))
    if rng.random() < 0.03:
        return sign + key  # no value at all
    return f"{sign}{key}={rng.choice(VALUES if rng.random() < 0.6 else NUMBERS)}"


@cache
def _names() -> list[str]:
    return sorted({key.name for key in known_keys()})


def _root(overrides: list[str]) -> DictConfig:
    """As `compose_root`; arguments that choose no option are set on a root composed before.

    Hydra composes anew for each line, which takes a third of a second.
    """
    refuse_passwords(overrides)
    parsed = OverridesParser.create().parse_overrides(as_typed(overrides))
    of_values = all(p.key_or_group not in groups() and "/" not in p.key_or_group for p in parsed)
    if not of_values or any(p.is_sweep_override() for p in parsed):
        return compose_root("train", overrides)
    root = copy.deepcopy(_composed())
    ConfigLoaderImpl._apply_overrides_to_config(parsed, root)
    return root


@cache
def _composed() -> DictConfig:
    """Without Hydra's own node, which takes long to copy."""
    root = compose_root("train")
    with open_dict(root):
        del root["hydra"]
    return root
