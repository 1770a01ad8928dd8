"""Contract: a part of the user's own is a class by its import path, its settings are checked by
name and type, its file is part of the run's key, and nothing that only a stored run names is
imported without consent.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scripts import environment

from retro_lab.config.compose import load_config
from retro_lab.config.consent import TRUST
from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import run_key
from retro_lab.config.parts import REQUIRED, part_class, part_settings
from retro_lab.config.schema import Config, OwnRetrieverConfig
from retro_lab.config.serialise import read_config, write_config
from retro_lab.retrieval.base import Retriever
from retro_lab.retrieval.embed.embedders import Embedder
from retro_lab.text.readers import Reader

SHARING = ["retriever=custom", "retriever.class=own_parts:Sharing"]
LETTERS = ["embedder=custom", "embedder.class=letters:Letters"]
VERSES = ["corpus=custom", "corpus.class=verses:VerseReader"]
SOURCE = """
from retro_lab.retrieval.base import Retriever

class Mine(Retriever):
    pass
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module into the working directory, which is not on Python's path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])

    def write(name: str, source: str = SOURCE) -> str:
        sys.modules.pop(name, None)
        Path(f"{name}.py").write_text(source)
        return f"{name}:Mine"

    return write


def typed(path: str, *more: str) -> Config:
    return load_config(["retriever=custom", f"retriever.class={path}", *more])


def stored(path: str, folder: Path) -> Config:
    """The configuration of a run that somebody else made."""
    config = load_config()
    config.retriever = OwnRetrieverConfig(cls=path)
    write_config(config, folder / "config.yaml")
    return read_config(folder / "config.yaml")


def test_the_settings_are_the_classes_own_dataclass() -> None:
    config = load_config([*SHARING, "retriever.settings.at_least=2"]).retriever
    assert isinstance(config, OwnRetrieverConfig)
    assert vars(part_settings(config)) == {"at_least": 2}
    assert vars(part_settings(OwnRetrieverConfig(cls=config.cls))) == {"at_least": 1}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([*SHARING, "retriever.settings.at_leats=2"], "mean retriever.settings.at_least?"),
        ([*SHARING, "retriever.settings.at_least=two"], "at_least=two: own_parts:"),
        ([*SHARING, "retriever.settings.at_least=true"], "expects int"),
        (VERSES, "corpus.settings.path has no value"),
        ([*VERSES, "corpus.settings.path=7"], "'corpus.settings.path=\"7\"'"),
        (
            [
                "embedder=custom",
                "embedder.class=letters:Letters",
                "embedder.settings.dim=0",
            ],
            "embedder.settings.dim=0: must be at least 1",
        ),
        ([*SHARING, "retriever.source=abc"], "is not the file that this run was made with"),
        (["retriever=bm25", "retriever.settings.a=1"], "choose retriever=custom"),
    ],
)
def test_a_wrong_setting_is_named(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(overrides)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no_such_file:Mine", "holds no_such_file.py, or install it"),
        ("own_parts:Sharings", "retriever.class=own_parts:Sharing"),
        ("os:system", "is no retriever: it has no exact, index_fields, build"),
        ("os:sep", "is str, not a class"),
        ("installed_nowhere", "no installed entry point of retro_lab.retrievers"),
    ],
)
def test_what_cannot_be_used_is_named(path: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        typed(path)
    assert said in str(caught.value)


def test_an_error_in_the_users_file_is_named_with_its_line(write: Write) -> None:
    with pytest.raises(UserError, match=r"in .*broken_part\.py, line 2: ZeroDivisionError"):
        typed(write("broken_part", "import os\n1 / 0\n"))


def test_an_edited_file_is_another_run(write: Write) -> None:
    path = write("edited_part")
    first = typed(path)
    assert run_key(typed(path)) == run_key(first)
    write("edited_part", f"{SOURCE}# a word more\n")
    assert run_key(typed(path)) != run_key(first)


def test_a_setting_is_in_the_key() -> None:
    one, other = (load_config([*SHARING, f"retriever.settings.at_least={n}"]) for n in (1, 2))
    assert run_key(one) != run_key(other)


def test_facts_come_from_the_class(write: Write) -> None:
    path = write("dense_part", f"{SOURCE}    needs_embeddings = True\n")
    assert typed(path).retriever.needs_embeddings
    assert not load_config(SHARING).retriever.needs_embeddings


def test_what_a_stored_run_names_needs_consent(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TRUST, raising=False)
    path = write("strangers_part")
    config = stored(path, tmp_path)
    assert run_key(config)  # nothing is imported to look at a run
    assert isinstance(config.retriever, OwnRetrieverConfig)
    with pytest.raises(UserError) as caught:
        part_class(config.retriever)
    assert f"{TRUST}={path}" in str(caught.value)
    assert "strangers_part" not in sys.modules
    monkeypatch.setenv(TRUST, f"other:Thing, {path}")
    assert part_class(config.retriever).__name__ == "Mine"


def test_consent_goes_with_the_work_to_other_processes(write: Write, tmp_path: Path) -> None:
    script = (
        "import pickle, sys\n"
        "from retro_lab.config.parts import part_class\n"
        "print(part_class(pickle.load(sys.stdin.buffer)).__name__)\n"
    )
    work = pickle.dumps(typed(write("shipped_part")).retriever)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=work, capture_output=True, env=environment(), cwd=tmp_path)
    assert done.stdout == b"Mine\n", done.stderr


def test_an_installed_entry_point_is_named_alone(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "outsider-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outsider\nVersion: 1\n")
    path = write("entered_part")
    (info / "entry_points.txt").write_text(f"[retro_lab.retrievers]\nmine = {path}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(config := typed("mine").retriever, OwnRetrieverConfig)
    assert part_class(config) is part_class(OwnRetrieverConfig(cls="mine"))
    assert part_class(config).__module__ == "entered_part"


@pytest.mark.parametrize(
    ("kind", "protocol"), [("retriever", Retriever), ("embedder", Embedder), ("reader", Reader)]
)
def test_required_members_are_those_of_the_protocol(kind: str, protocol: type) -> None:
    members = {name for name in vars(protocol) if not name.startswith("_")}
    assert set(REQUIRED[kind]) == members - {"needs_embeddings"}  # which has a default for all
