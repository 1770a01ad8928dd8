"""One finished run on the generated corpus: trained once, and copied for each process of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from golden import CORPUS, Golden
from matplotlib.figure import Figure
from observed import scored_conditions
from pictures import draw, draw_nothing
from small_corpus import write_corpus

from retro_lab.memory import match_heads
from retro_lab.run.directory import RunDirectory


@pytest.fixture(scope="module", autouse=True)
def without_pictures() -> Iterator[None]:
    """Plots are one pixel, but where a test asks for `pictures`; tests/evaluation draws them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", draw_nothing)
        yield


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Iterator[None]:
    """Heads of nearest states take a tenth of the steps and of the tokens; tests/memory all."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("STEPS", "SAMPLE"):
            patch.setattr(match_heads, name, getattr(match_heads, name) // 10)
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are drawn."""
    monkeypatch.setattr(Figure, "savefig", draw)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of what all processes of tests use."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent  # each worker has a folder of its own


@pytest.fixture(scope="session")
def golden(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """A corpus and a configuration; nothing is run yet."""
    corpus = shared / "corpus"
    with FileLock(shared / "corpus.lock"):
        if not corpus.exists():
            corpus.mkdir()
            write_corpus(corpus, CORPUS)
    return Golden.of(tmp_path_factory.mktemp("golden"), corpus)


@pytest.fixture(scope="session")
def trained(golden: Golden, shared: Path) -> RunDirectory:
    """The golden run in this process's folder, copied from the one that all processes train."""
    origin = Golden.of(shared / "trained", golden.corpus)
    with FileLock(shared / "trained.lock"):
        origin.run()  # does nothing if another process did it
    origin.copy_to(golden)
    return RunDirectory.of(golden.config())


@pytest.fixture(scope="module")
def finished(golden: Golden, trained: RunDirectory) -> Iterator[RunDirectory]:
    """The golden run, trained and evaluated. Many modules read it, so none may change it."""
    folders = [run.path for run in (trained, golden.baseline(), golden.plain())]
    before = _stamps(folders)
    yield trained
    assert _stamps(folders) == before, "the shared run was changed: use `run` or `copy`"


@pytest.fixture(scope="module")
def run(
    golden: Golden, finished: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> RunDirectory:
    """A copy of the golden run and its baselines, for a module that adds to it."""
    return golden.copy_runs(tmp_path_factory.mktemp("copy") / "runs")


@pytest.fixture
def copy(golden: Golden, finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of the golden run and its baselines, for a test that changes it."""
    return golden.copy_runs(tmp_path / "runs")


@pytest.fixture
def scored() -> Iterator[Callable[[], list[str]]]:
    """Says for which conditions a model was run since it was asked last."""
    with scored_conditions() as conditions:

        def since() -> list[str]:
            found = conditions.copy()
            conditions.clear()
            return found

        yield since


def _stamps(folders: list[Path]) -> dict[Path, int]:
    """When each file was written; locks are opened for writing by whoever reads a run."""
    return {
        path: path.stat().st_mtime_ns
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }
