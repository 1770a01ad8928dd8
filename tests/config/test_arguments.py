"""Contract of `key=value` arguments: each becomes a typed field, and whatever is wrong with one is
a message that names key, value, what was expected and a fix, with exit code 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from retro_lab.config import arguments
from retro_lab.config.arguments import key
from retro_lab.config.errors import UserError


def minutes(text: str) -> int:
    if not text.endswith("m"):
        raise ValueError("a number and m")
    return int(text[:-1])


@dataclass(frozen=True)
class Request:
    run: Path = key(example="runs/...")
    words: tuple[Path, ...] = ()
    prompts: tuple[str, ...] = key((), name="prompt", blank=True)
    tokens: int = key(128, least=1)
    port: int = key(0, least=0, most=65535)
    share: float = key(1.0, name="database.share", above=0, most=1)
    switch: bool | None = None
    device: str = key("auto", choices=("auto", "cpu"))
    wait: int | None = key(None, read=minutes, example="5m")
    yes: bool = key(False, name="--yes")


def parse(*argv: str) -> Request:
    return arguments.parse(argv, Request, "try")


def test_every_type_is_read() -> None:
    found = parse("run=a=b", "tokens=3", "database.share=1e-3", "switch=off", "wait=5m", "--yes")
    assert found == Request(Path("a=b"), tokens=3, share=0.001, switch=False, wait=5, yes=True)
    assert parse("run=r") == Request(Path("r"))


def test_what_may_be_repeated_keeps_its_order() -> None:
    assert parse("run=r", "prompt=b", "prompt=", "prompt=a").prompts == ("b", "", "a")


def test_words_are_what_is_no_key(tmp_path: Path) -> None:
    odd = tmp_path / "lr=1"
    odd.mkdir()
    assert parse("run=r", "a/b", str(odd), "c").words == (Path("a/b"), odd, Path("c"))


@pytest.mark.parametrize(
    ("argument", "message", "fix"),
    [
        ("rum=x", "rum is not a key of try", "did you mean run=...?"),
        ("--yess", "--yess is not a key of try", "did you mean --yes?"),
        ("qqqq=" + "x" * 5000, "qqqq is not a key of try", "keys: run"),
        ("qqqq=x", "qqqq is not a key of try", "keys: run, prompt, tokens"),
        ("tokens", "tokens has no value", "tokens="),
        ("tokens=", "tokens has no value", "tokens="),
        ("tokens=0", "tokens=0: expected a whole number of at least 1", "leave out tokens="),
        ("tokens=1.5", "tokens=1.5: expected a whole number", "leave out tokens="),
        ("tokens=99999999999999999999", "expected a whole number", "leave out tokens="),
        ("port=65536", "port=65536: expected a whole number of at least 0 and at most 65535", ""),
        ("database.share=0", "expected a number above 0 and at most 1", "leave out database.share"),
        ("database.share=nan", "expected a number above 0 and at most 1", ""),
        ("database.share=inf", "expected a number above 0 and at most 1", ""),
        (
            "switch=yes",
            "switch=yes is none of its values",
            "switch=on or switch=off or switch=true or switch=false",
        ),
        ("device=tpu", "device=tpu is none of its values", "device=auto or device=cpu"),
        ("wait=5", "wait=5: expected a number and m", "wait=5m"),
        ("run=again", "run is given twice", "leave out run=again"),
    ],
)
def test_a_mistake_names_key_value_and_fix(argument: str, message: str, fix: str) -> None:
    with pytest.raises(UserError) as raised:
        parse("run=r", argument)
    assert message in str(raised.value)
    assert fix in (raised.value.fix or "")


def test_a_key_that_is_needed_is_named_with_an_example() -> None:
    with pytest.raises(UserError, match="try needs run") as raised:
        parse("tokens=1")
    assert raised.value.fix == "add run=runs/..."


def test_help_nothing_and_mistakes_have_their_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(argv: list[str]) -> None:
        parse(*argv)

    assert arguments.run([], "usage: try", command) == 2
    assert arguments.run(["run=x", "--help"], "usage: try", command) == 0
    assert capsys.readouterr().out == "usage: try\n" * 2
    assert arguments.run(["run=x"], "usage: try", command) == 0
    assert arguments.run([], "usage: try", command, bare=True) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "error: try needs run\n  fix: add run=runs/...\n")
