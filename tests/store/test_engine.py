"""Contract: an engine does the blocks that are missing, in any order and in any process, and the
merged bytes and counts are those of one process; what goes wrong in a worker is said as if it had
happened here. The tests with Ray are slow: a cluster takes seconds to start.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from scripts import environment

from retro_lab.config.errors import UserError
from retro_lab.config.schema import EngineKind, PrepareConfig
from retro_lab.store import Workspace, build_engine
from retro_lab.store.engine import LocalEngine, RayEngine, Work
from retro_lab.store.stage import JSON

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
    """`produce`, in a process that dies when it begins block 4 for the first time.

    It writes down the blocks that are begun, and by which process.
    """

    def __init__(self, log: Path) -> None:
        self.log = log

    def __call__(self, start: int, stop: int) -> dict[str, np.ndarray | float]:
        with self.log.open("a") as file:
            file.write(f"{start} {os.getpid()}\n")
        if [block for block, _ in self.begun()].count(4) == 1 and start == 4:
            os._exit(1)
        return produce(start, stop)

    def begun(self) -> list[tuple[int, int]]:
        """Block and process each time, by block."""
        lines = (line.split() for line in self.log.read_text().splitlines())
        return sorted((int(block), int(process)) for block, process in lines)


def dies(start: int, stop: int) -> dict[str, np.ndarray | float]:
    os._exit(1)


class HoldsGPU:
    """Counts the blocks that a worker with a GPU did, and those of another node than this one."""

    def __init__(self) -> None:
        self.here = self._node()

    def __call__(self, start: int, stop: int) -> dict[str, np.ndarray | float]:
        holding = os.environ.get("CUDA_VISIBLE_DEVICES") == "0"
        elsewhere = self._node() != self.here
        return {"x": np.arange(start, stop), "holding": holding, "elsewhere": elsewhere}

    @staticmethod
    def _node() -> str:
        return import_module("ray").get_runtime_context().get_node_id()


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


@pytest.fixture
def by_value(ray_nodes: None) -> Iterator[None]:
    """What this module defines travels whole: workers lack its folder."""
    cloudpickle = import_module("ray.cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
class TestRay:
    def test_gives_the_same_by_relative_paths(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert build(Path("a"), build_engine(RAY)) == build(tmp_path / "b")

    def test_a_worker_that_dies_costs_one_block(self, tmp_path: Path) -> None:
        with pytest.raises(UserError):
            build(tmp_path / "a", LocalEngine(), fails)
        work = DiesOnce(tmp_path / "log")
        assert build(tmp_path / "a", build_engine(RAY), work) == build(tmp_path / "b")
        blocks, processes = zip(*work.begun(), strict=True)
        assert blocks == (4, 4, 6, 8)  # those that were missing, and what died once more
        assert os.getpid() not in processes

    def test_a_block_that_kills_every_worker_ends(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"a block's worker died 4 times"):
            build(tmp_path, RayEngine(workers=1), dies)

    def test_a_mistake_in_a_worker_is_told_as_such(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=rf"block 4 of {Path.cwd()} is no good") as caught:
            build(tmp_path, RayEngine(workers=1), fails)
        assert caught.value.fix == "mend it"

    def test_workers_hold_gpus_of_another_node(self, tmp_path: Path) -> None:
        counts, _ = build(tmp_path, RayEngine(workers=1, gpus_per_worker=0.5), HoldsGPU())
        assert counts == {"holding": 5, "elsewhere": 5}  # every block

    def test_too_few_gpus_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"gpus_per_worker=2: the Ray cluster has 1 GPUs"):
            build(tmp_path, RayEngine(gpus_per_worker=2))


def ray_run(folder: Path, **variables: str) -> str:
    """What `ray_run.py` says; of clusters it knows those that the environment names."""
    script = Path(__file__).with_name("ray_run.py")
    own = {name: value for name, value in environment().items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        env={**own, "RAY_USAGE_STATS_ENABLED": "0", **variables},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def no_clusters() -> Iterator[str]:
    """A folder where Ray finds no trace of any; its path is short, as sockets' must be."""
    pytest.importorskip("ray")
    with TemporaryDirectory(prefix="ray") as folder:
        yield folder


@pytest.mark.slow
def test_a_cluster_is_started_for_the_blocks_and_ends(tmp_path: Path, no_clusters: str) -> None:
    assert ray_run(tmp_path, RAY_TMPDIR=no_clusters) == "not connected\n"
    assert np.load(tmp_path / "squares.npy").tolist() == [i * i for i in range(10)]


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
def test_a_cluster_that_is_gone_is_told_at_once(
    tmp_path: Path, no_clusters: str, named: bool
) -> None:
    """Whether it is named, or `ray start` left its address behind: Ray tries for minutes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        gone = f"127.0.0.1:{taken.getsockname()[1]}"
        left = Path(no_clusters, "ray", "ray_current_cluster")
        left.parent.mkdir()
        left.write_text("" if named else gone)
        said = ray_run(tmp_path, RAY_TMPDIR=no_clusters, RAY_ADDRESS=gone if named else "")
    assert f"no cluster answers at {gone}" in said
