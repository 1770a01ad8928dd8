"""One finished run on the generated corpus, shared by the tests of the commands."""

from __future__ import annotations

import shutil

import pytest
from golden import Golden, write_corpus

from retro_lab.run.directory import RunDirectory


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """A corpus and a configuration; nothing is run yet."""
    folder = tmp_path_factory.mktemp("golden")
    write_corpus(folder)
    return Golden(
        folder,
        (
            "corpus=jsonl",
            f"corpus.path={folder / 'corpus.jsonl'}",
            *(f"corpus.split.{s}_ids={folder / s}.txt" for s in ("train", "validation", "test")),
            "tokenizer.vocab_size=400",
            "debug=fast",
            "corpus.max_bytes=null",
            "logger=none",
            "trainer.threads=1",
            f"runs_dir={folder / 'runs'}",
            f"store.dir={folder / 'store'}",
        ),
    )


@pytest.fixture(scope="session")
def finished(golden: Golden) -> RunDirectory:
    """The golden run, trained and evaluated."""
    return golden.run()


@pytest.fixture(scope="module")
def run(
    golden: Golden, finished: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> RunDirectory:
    """A copy of the golden run and its baseline, for a module that adds to it."""
    folder = tmp_path_factory.mktemp("copy") / "runs"
    shutil.copytree(golden.folder / "runs", folder)
    return RunDirectory(folder / finished.path.name)
