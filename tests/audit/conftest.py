"""A small text and its training text, as files."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from drawn_texts import sentences


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of test.jsonl and train.jsonl, which share nothing long."""
    for name, seed in (("test", 0), ("train", 1)):
        rows = [{"id": f"{name}{n}", "text": t} for n, t in enumerate(sentences(6, seed))]
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return tmp_path
