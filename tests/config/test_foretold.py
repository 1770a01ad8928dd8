"""Contract: `validate` refuses text that can't be read, tells tokens, memory and time of a training
before it starts, and warns of what is hopeless, and of nothing else.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from composed import config_of

from retro_lab.commands import validate
from retro_lab.config.fingerprints import canonical
from retro_lab.planner.training import Machine, Training
from retro_lab.planner.training_words import in_words

MACHINE = Machine(memory=16 * 10**9, rate=1e11)


def training(*overrides: str) -> Training:
    return Training.of(canonical(config_of(*overrides)))


def test_the_default_run_is_foretold_without_a_warning() -> None:
    found = training()
    assert found.tokens == (400 + 80) * 8 * 512
    assert found.epochs == pytest.approx(found.tokens / (0.8 * 3_000_000 / 4))
    assert list(found.warnings(MACHINE)) == []
    least, most = found.seconds(MACHINE) or (0, 0)
    assert 0 < least < most < 3600
    assert set(in_words(found, MACHINE)) == {"tokens", "corpus", "memory", "time"}


def test_memory_follows_the_batch_and_the_weights() -> None:
    whole, half = training(), training("trainer.accumulate=2")
    states = 16 * whole.parameters
    assert half.memory - states == pytest.approx((whole.memory - states) / 2)
    large = training("model=retro_172m", "cca=paper", "trainer.accumulate=8")
    assert large.memory > 16 * 172e6


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=retro_172m", "cca=paper"], "training tokens a parameter"),
        (["schedule.steps=40000"], "by heart"),
        (["model=retro_1_5b", "cca=paper", "schedule.steps=10"], "GB of memory"),
    ],
)
def test_what_is_hopeless_is_warned_of(overrides: list[str], said: str) -> None:
    warnings = training(*overrides).warnings(MACHINE)
    assert any(said in warning for warning in warnings)


def test_an_unknown_machine_promises_nothing() -> None:
    found = training("model=retro_1_5b", "cca=paper")
    unknown = dataclasses.replace(MACHINE, memory=None, rate=None)
    assert found.seconds(unknown) is None
    assert not any("memory" in warning for warning in found.warnings(unknown))


def test_text_that_cannot_be_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "my.csv"
    table.write_text("id,body\n1,some text\n")
    cases = {
        ("jsonl", table): "corpus=csv corpus.text_field=body",
        ("csv", table): "corpus.text_field=body",
        ("csv", tmp_path / "mi.csv"): f"did you mean {table}?",
    }
    for (corpus, path), fix in cases.items():
        assert validate.main([f"corpus={corpus}", f"corpus.path={path}"]) == 2
        assert fix in capsys.readouterr().err
    given = ["corpus=csv", f"corpus.path={table}", "corpus.text_field=body"]
    assert validate.main(given) == 0
    printed = capsys.readouterr()
    assert "tokens:" in printed.out
    assert "by heart" in printed.err
