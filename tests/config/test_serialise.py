"""Contract: only a run directory is read, and only schemas in it. (`test_options.py` reads every
option back.)
"""

from __future__ import annotations

from pathlib import Path

import pytest
from composed import config_of

from retro_lab.config.errors import UserError
from retro_lab.config.serialise import read_config, write_config


def test_only_schemas_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_config(config_of(), path)
    path.write_text(path.read_text().replace("Bm25RetrieverConfig", "os.system"))
    with pytest.raises(UserError, match=r"unknown schema os\.system"):
        read_config(path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run directory"):
        read_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("chunk_size: 64", "chunk_size: sixty-four", "chunking: chunk_size: 'sixty-four' is not"),
        ("seed: 1", "seed: [1]", "seed: [1] is not int"),
        ("placement: mid", "placement: middle", "cca: placement: 'middle'"),
        ("- 0.125", "- o.125", "eval: alphas: 'o.125' is not float"),
        ("doses: []", "doses: 0.5", "injection: doses: 0.5 is not a list"),
        ("chunking:", "chunks:", "unknown keys chunks in Config"),
    ],
)
def test_what_was_edited_or_is_of_another_version_is_named(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    write_config(config_of(), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_config(path)
    assert said in caught.value.message


@pytest.mark.parametrize("text", ["", "[]", "text", "seed: 1", "a: [b", "retriever: bm25"])
def test_any_other_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a configuration that this version can read"):
        read_config(path)
