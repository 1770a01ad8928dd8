"""Contract: a file has one spelling in a run's settings, relative below the working directory, so
that all ways to name it are one run; a name that is no file is left as it was typed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from retro_lab.config.compose import load_config
from retro_lab.config.file_paths import located, located_path, plain_path
from retro_lab.config.fingerprints import run_key


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file, a folder, and a link to a folder elsewhere."""
    folder = tmp_path / "home" / "work"
    (folder / "data").mkdir(parents=True)
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    for path in (folder, folder / "data", tmp_path / "disk", folder.parent):
        (path / "base.jsonl").touch()
    (folder / "link").symlink_to(tmp_path / "disk" / "deep")
    (tmp_path / "same").symlink_to(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder.parent))
    return folder


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("base.jsonl", "base.jsonl"),
        ("./base.jsonl", "base.jsonl"),
        ("data/../base.jsonl", "base.jsonl"),
        ("../work/base.jsonl", "base.jsonl"),
        ("{here}/base.jsonl", "base.jsonl"),
        ("{here}/../work//data/base.jsonl", "data/base.jsonl"),
        ("~/work/base.jsonl", "base.jsonl"),
        ("{here.parent.parent}/same/base.jsonl", "base.jsonl"),
        ("data/", "data"),
        ("./data/*.jsonl", "data/*.jsonl"),
        ("../base.jsonl", "{here.parent}/base.jsonl"),
        ("~/base.jsonl", "{here.parent}/base.jsonl"),
        ("link", "link"),
        ("link/../base.jsonl", "link/../base.jsonl"),  # of the folder that the link leads to
        ("owner/name", "owner/name"),
        ("./no-such/../name", "./no-such/../name"),
        ("", ""),
    ],
)
def test_a_path_has_one_spelling(typed: str, plain: str, here: Path) -> None:
    assert plain_path(typed.format(here=here)) == plain.format(here=here)
    assert plain_path(plain.format(here=here)) == plain.format(here=here)


def test_all_spellings_are_one_run(here: Path) -> None:
    def key(path: str) -> str:
        return run_key(
            load_config(
                [
                    "corpus=jsonl", f"corpus.path={path}", f"corpus.split.test_ids={path}",
                    "tokenizer=hf", f"tokenizer.path={path}", f"database.add=[\"{path}\"]",
                    "database=corpora", "+corpus@database.corpora.b=text",
                    f"database.corpora.b.path={path}", f"recipe.backbone={path}",
                ]
            )
        )  # fmt: skip

    spellings = ["data", "./data", "data/", f"{here}/data", "~/work/data"]
    assert len({key(path) for path in spellings}) == 1
    assert key("../base.jsonl") != key("data")


def test_a_relative_path_is_found_where_it_started(here: Path) -> None:
    config = load_config(["corpus=jsonl", "corpus.path=data/base.jsonl", "tokenizer=hf",
                          "tokenizer.path=owner/name"])  # fmt: skip
    found = located(config, here)
    assert vars(found.corpus)["path"] == f"{here}/data/base.jsonl"
    assert vars(found.tokenizer)["path"] == "owner/name"
    assert located_path("base.jsonl", here / "no-such") == "base.jsonl"
