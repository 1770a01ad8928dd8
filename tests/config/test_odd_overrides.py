"""Contract: any argument gets a result or one message with exit code 2, also where Hydra itself
breaks down; sizes with which nothing could end are refused; a password is never shown.
"""

from __future__ import annotations

import pytest
from composed import config_of

from retro_lab.commands import launch, validate
from retro_lab.config.compose import load_config
from retro_lab.config.errors import UserError
from retro_lab.config.rules import check
from retro_lab.config.schema import HttpRetrieverConfig
from retro_lab.retrieval.service.client import open_client

BREAKING = [
    ("train", "recipe.optim.lr=1e-3", "add optim@recipe.optim=adamw"),
    ("train", "++recipe.optim.lr=1e-3", "no option of recipe.optim is chosen"),
    ("train", "logger=[1,2]", "options of logger: csv"),
    ("train", "logger=[null]", "options of logger are names: csv"),
    ("train", "schedule=[null]", "options of schedule are names"),
    ("train", "logger=csv logger.wandb.project=x", "add wandb to the list logger"),
    ("train", "~trainer=-0.0", "Could not delete 'trainer=-0.0'"),
    ("train", "logger=${seed}", "logger=${seed}: ${seed} is no option's name"),
    ("train", "+retriever.__class__=7", "retriever.__class__ is not a key of the configuration"),
    ("train", "model.encoder=${x}", "x"),
    ("train", "model.encoder=${runs_dir}", "model.encoder='runs' is not a group of settings"),
    ("train", "model.encoder.cca_layers=${seed}", "model.encoder.cca_layers=1 is not a list"),
    ("train", "model.encoder.cca_layers=${cca.layers}", "model.encoder.cca_layers=None"),
    ("evaluate", "run=x ++trainer.threads=1", "add trainer=cpu"),
    ("evaluate", "run=x database.max_bytes=3", "add database=train"),
]


@pytest.mark.parametrize(("command", "overrides", "says"), BREAKING)
def test_where_hydra_breaks_down_there_is_one_message(
    command: str, overrides: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(_: object) -> None:
        pytest.fail("nothing is to be run")

    assert launch.run(command, task, overrides.split()) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("error:") == 1
    assert "Traceback" not in printed
    if command == "train":
        assert validate.main(overrides.split()) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("node", ["sweeper", "launcher"])
def test_hydras_plugins_are_chosen_by_name(node: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.run("train", lambda _: pytest.fail("no run"), ["-m", f"hydra.{node}=3"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: hydra.{node}=3: ")
    assert f"fix: hydra/{node}=basic" in printed


@pytest.mark.parametrize(
    "override",
    [
        "eval.bootstrap_samples=100000000000",
        "model.d_model=10000000",
        "model.num_layers=100000",
        "schedule.batch_size=10000000",
        "neighbours.k_store=100000",
        "trainer.threads=100000",
        "chunking.sequence_length=64000000",
        "tokenizer.vocab_size=100000000",
        "embedder.batch_size=100000000",
    ],
)
def test_hopeless_sizes_are_refused(override: str) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(UserError, match=f"{key}={value}: must be at most"):
        check(config_of(override))


@pytest.mark.parametrize("key", ["seed", "eval.seed", "trainer.log_every"])
def test_whole_numbers_have_64_bits(key: str) -> None:
    with pytest.raises(UserError, match=f"{key}=9223372036854775808: is beyond 64 bits"):
        check(config_of(f"{key}={2**63}"))


def test_the_largest_seed_is_taken() -> None:
    check(config_of(f"seed={2**63 - 1}"))


@pytest.mark.parametrize("user", ["u:sesame@", "sesame@", "u:pw@sesame@", ":sesame@"])
def test_a_password_in_an_address_is_refused_and_never_shown(
    user: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{user}host:8765"
    service = HttpRetrieverConfig(url=url)
    for said in (
        lambda: load_config(["retriever=http", f"retriever.url={url}"]),
        lambda: check(config_of("retriever=http", f"retriever.url={url}")),
        lambda: open_client(service),
    ):
        with pytest.raises(UserError, match="RETRO_LAB_API_KEY") as caught:
            said()
        assert "sesame" not in str(caught.value)
    argv = ["-m", "retriever=http", f"retriever.url={url}"]
    assert launch.run("train", lambda _: None, argv) == 2
    assert validate.main(argv[1:]) == 2
    printed = "".join(capsys.readouterr())
    assert printed.count("***@host") == 2
    assert "sesame" not in printed


def test_a_key_that_no_header_can_hold_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("sesame\n", "sésame"):
        monkeypatch.setenv("RETRO_LAB_API_KEY", key)
        with pytest.raises(UserError, match="RETRO_LAB_API_KEY") as caught:
            open_client(HttpRetrieverConfig())
        assert "same" not in str(caught.value)
