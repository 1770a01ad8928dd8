"""Tests run side by side, one process a core (pytest-xdist), so each keeps to one thread."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before the tests are selected by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each test that isn't marked as slow or of the GPU the level of its folder."""
    for item in items:
        if TESTS not in item.path.parents:
            continue  # `pytest --pyargs retro_lab.testing`, typed in the checkout
        if not any(map(item.get_closest_marker, ("slow", "gpu"))):
            folder = item.path.relative_to(TESTS).parts[0]
            item.add_marker("app" if folder in ("app", "faults") else "contracts")


def pytest_collection_finish() -> None:
    """Keeps the garbage collector off what was imported: it takes a twentieth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def without_a_width() -> None:
    """Messages are wrapped for a terminal; pytest-xdist tells its processes the width of one."""
    os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[None]:
    """A Ray cluster of two nodes, a core each, on this machine; the second says it has a GPU.

    It takes no notice of other clusters, and leaves no address behind.
    """
    ray = pytest.importorskip("ray")
    nodes = import_module("ray.cluster_utils")
    memory = 80 * 2**20
    # Sockets lie in the folder, and their paths may have a hundred letters.
    with TemporaryDirectory(prefix="ray") as folder, pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_TMPDIR", folder)
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.delenv("RAY_ADDRESS", raising=False)
        head = {"object_store_memory": memory, "include_dashboard": False}
        cluster = nodes.Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(object_store_memory=memory, num_gpus=1)
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
            yield
        finally:
            ray.shutdown()
            cluster.shutdown()
