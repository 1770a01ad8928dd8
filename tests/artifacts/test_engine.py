"""Contract: an engine does the blocks that are missing, in any order and in any process, and the
merged bytes and counts are those of one process; what goes wrong in a worker is said as if it had
happened here. The tests with Ray are slow: a cluster takes seconds to start.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from retro_lab.artifacts import Workspace, build_engine
from retro_lab.artifacts.engine import LocalEngine, RayEngine, Work
from retro_lab.artifacts.stage import JSON
from retro_lab.config.errors import UserError
from retro_lab.config.schema import EngineKind, PrepareConfig

RAY = PrepareConfig(engine=EngineKind.ray, workers=2)


class Backwards:
    """The last block first, each by a pickled copy of the work; it remembers what it did."""

    def __init__(self) -> None:
        self.done: list[tuple[int, int]] = []

    def run(self, work: Work, blocks: Sequence[tuple[int, int]]) -> Iterator[JSON]:
        for start, stop in reversed(blocks):
            self.done.append((start, stop))
            yield pickle.loads(pickle.dumps(work))(start, stop)


def produce(start: int, stop: int) -> dict[str, np.ndarray | float]:
    items = np.arange(start, stop)
    return {"squares": items * items, "items": len(items), "odd": int((items % 2).sum())}


def fails(start: int, stop: int) -> dict[str, np.ndarray | float]:
    if start == 4:
        raise UserError(f"block {start} of {Path.cwd()} is no good", fix="mend it")
    return produce(start, stop)


class DiesOnce:
    """`produce`, in a process that dies at one block unless `trace` is there already."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __call__(self, start: int, stop: int) -> dict[str, np.ndarray | float]:
        if start == 4 and not self.trace.exists():
            self.trace.write_text(str(os.getpid()))
            os._exit(1)
        return produce(start, stop)


def dies(start: int, stop: int) -> dict[str, np.ndarray | float]:
    os._exit(1)


def holds_a_gpu(start: int, stop: int) -> dict[str, np.ndarray | float]:
    return {"x": np.arange(start, stop), "holding": os.environ.get("CUDA_VISIBLE_DEVICES") == "0"}


def build(path: Path, engine=None, function=produce) -> tuple[dict[str, float], dict[str, bytes]]:
    space = Workspace(path, engine)
    counts = space.blocks(10, 2, function, what="squaring", unit="items", anywhere=True)
    return counts, {file.name: file.read_bytes() for file in path.glob("*.npy")}


def test_order_and_process_of_blocks_do_not_matter(tmp_path: Path) -> None:
    engine = Backwards()
    assert build(tmp_path / "a", engine) == build(tmp_path / "b")
    assert engine.done == [(8, 10), (6, 8), (4, 6), (2, 4), (0, 2)]


def test_counts_are_summed_over_all_attempts(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        build(tmp_path, LocalEngine(), fails)
    engine = Backwards()
    counts, _ = build(tmp_path, engine)
    assert engine.done == [(8, 10), (6, 8), (4, 6)]
    assert counts == {"items": 10, "odd": 5}
    assert build(tmp_path, engine)[0] == counts  # merged by now
    assert len(engine.done) == 3


def test_blocks_stay_here_unless_they_may_be_done_anywhere(tmp_path: Path) -> None:
    engine = Backwards()
    space = Workspace(tmp_path, engine)
    space.blocks(4, 2, lambda a, b: {"x": np.arange(a, b)}, what="x", unit="items")
    assert engine.done == []


def test_the_engine_is_the_configured_one() -> None:
    assert isinstance(build_engine(PrepareConfig()), LocalEngine)
    assert build_engine(RAY) == RayEngine(workers=2, gpus_per_worker=0)


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"prepare\.engine=ray needs the package ray") as caught:
        build(tmp_path, build_engine(RAY))
    assert 'pip install -e ".[ray]"' in (caught.value.fix or "")


def test_a_single_block_needs_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    space = Workspace(tmp_path, build_engine(RAY))
    counts = space.blocks(2, 2, produce, what="squaring", unit="items", anywhere=True)
    assert counts == {"items": 2, "odd": 1}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers on this machine, for all tests; it only says that it has a GPU."""
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False,
        object_store_memory=80 * 2**20,
    )  # fmt: skip
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers lack this folder
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestRay:
    def test_gives_the_same(self, tmp_path: Path) -> None:
        assert build(tmp_path / "a", build_engine(RAY)) == build(tmp_path / "b")

    def test_does_what_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UserError):
            build(tmp_path / "a", LocalEngine(), fails)
        trace = tmp_path / "trace"
        trace.touch()
        assert build(tmp_path / "a", build_engine(RAY), DiesOnce(trace)) == build(tmp_path / "b")

    def test_paths_may_be_relative(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        build(Path("here"), build_engine(RAY))
        assert (tmp_path / "here" / "squares.npy").is_file()

    def test_a_worker_that_dies_costs_one_block(self, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        found = build(tmp_path / "a", build_engine(RAY), DiesOnce(trace))
        assert found == build(tmp_path / "b")
        assert int(trace.read_text()) != os.getpid()

    def test_a_block_that_kills_every_worker_ends(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"a block's worker died 4 times"):
            build(tmp_path, build_engine(RAY), dies)

    def test_a_mistake_in_a_worker_is_told_as_such(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=rf"block 4 of {Path.cwd()} is no good") as caught:
            build(tmp_path, build_engine(RAY), fails)
        assert caught.value.fix == "mend it"

    def test_workers_hold_gpus(self, tmp_path: Path) -> None:
        counts, _ = build(tmp_path, RayEngine(gpus_per_worker=0.5), holds_a_gpu)
        assert counts == {"holding": 5}  # every block

    def test_too_few_gpus_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"gpus_per_worker=2: the Ray cluster has 1 GPUs"):
            build(tmp_path, RayEngine(gpus_per_worker=2))
