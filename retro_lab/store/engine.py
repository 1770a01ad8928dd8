"""Engines that compute the blocks of a stage: this process, or Ray workers in parallel.

Both make the same call for a block, which writes the block's files and marker into the workspace.
The bytes are independent of the engine, and one engine can resume a build of the other.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from retro_lab.config.errors import UserError, first_line
from retro_lab.config.schema import EngineKind, PrepareConfig

from .stage import JSON

_RETRIES = 3  # of a block whose worker died; limited, since some blocks kill every worker

Work = Callable[[int, int], JSON]
"""Computes the block (start, stop) and returns its marker."""


class Engine(Protocol):
    """Computes blocks."""

    def run(self, work: Work, blocks: Sequence[tuple[int, int]]) -> Iterator[JSON]:
        """Yields each block's marker as soon as the block (start, stop) is done, in any order."""
        ...


class LocalEngine:
    """Computes blocks one after the other in this process."""

    def run(self, work: Work, blocks: Sequence[tuple[int, int]]) -> Iterator[JSON]:
        for start, stop in blocks:
            yield work(start, stop)


@dataclass(frozen=True)
class RayEngine:
    """Computes blocks in parallel on a Ray cluster: the one at RAY_ADDRESS, or this machine.

    All machines need the same packages, and the same files under the same paths. If a worker dies,
    another one repeats its block.

    Attributes:
        workers: worker processes; None takes as many as the cluster has cores, or GPUs for.
        gpus_per_worker: GPUs of each worker.
    """

    workers: int | None = None
    gpus_per_worker: float = 0.0

    def run(self, work: Work, blocks: Sequence[tuple[int, int]]) -> Iterator[JSON]:
        """As `Engine.run`; `work` is pickled. A single block is computed in this process.

        Raises:
            UserError: Ray is missing or has too few GPUs, or a block's workers die repeatedly.
        """
        if len(blocks) == 1:
            yield from LocalEngine().run(work, blocks)
            return
        with _cluster() as ray:
            strategy = ray.data.ActorPoolStrategy(size=self._size(ray, len(blocks)))
            rows = [{"start": start, "stop": stop} for start, stop in blocks]
            with warnings.catch_warnings():
                # Ray's arguments for restarts and retries warn of deprecation, without a
                # replacement yet.
                warnings.simplefilter("ignore", DeprecationWarning)
                results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                    _Worker,
                    compute=strategy,
                    fn_constructor_args=(ray.cloudpickle.dumps(work), str(Path.cwd())),
                    num_cpus=None if self.gpus_per_worker else 1,
                    num_gpus=self.gpus_per_worker or None,
                    max_restarts=-1,
                    max_task_retries=_RETRIES,
                )
            for row in results.iter_rows():
                done = pickle.loads(row["done"])
                if isinstance(done, Exception):
                    raise done
                yield done

    def _size(self, ray: Any, blocks: int) -> int:
        held = ray.cluster_resources()
        possible = held.get("CPU", 1)
        if self.gpus_per_worker:
            possible = held.get("GPU", 0) / self.gpus_per_worker
            if possible < 1:
                raise UserError(
                    f"prepare.gpus_per_worker={self.gpus_per_worker}: the Ray cluster has "
                    f"{held.get('GPU', 0):g} GPUs",
                    fix="start Ray on machines with GPUs, or prepare.gpus_per_worker=0",
                )
        return min(blocks, self.workers or max(1, int(possible)))


def build_engine(config: PrepareConfig) -> Engine:
    """The engine of a configuration; Ray is imported with the first blocks."""
    if config.engine is EngineKind.ray:
        return RayEngine(config.workers, config.gpus_per_worker)
    return LocalEngine()


class _Worker:
    """A worker process, which unpickles the work once and keeps its open files."""

    def __init__(self, pickled: bytes, folder: str) -> None:
        self._pickled, self._folder = pickled, folder

    @cached_property
    def _work(self) -> Work:
        try:
            os.chdir(self._folder)  # paths may be relative
        except OSError:
            raise UserError(
                f"prepare.engine=ray: {self._folder} isn't there on {socket.gethostname()}",
                fix="start the command in a folder that all machines share",
            ) from None
        return pickle.loads(self._pickled)

    def __call__(self, row: dict[str, int]) -> dict[str, bytes]:
        """The pickled marker or exception; Ray itself would pass on only the exception's text."""
        try:
            done = self._work(row["start"], row["stop"])
        except Exception as error:
            error.add_note(f"on {socket.gethostname()}:\n{traceback.format_exc()}")
            return {"done": _packed(error)}
        return {"done": pickle.dumps(done)}


def _packed(error: Exception) -> bytes:
    """The pickled exception, or a RuntimeError with its text if unpickling fails."""
    try:
        pickle.loads(packed := pickle.dumps(error))
    except Exception:
        return pickle.dumps(RuntimeError("\n".join([repr(error), *error.__notes__])))
    return packed


def _check_answers(address: str | None) -> None:
    """Refuses the address of a dead cluster, which Ray would retry for a quarter of an hour.

    A cluster that ended without `ray stop` leaves its address behind on its machine.
    """
    host, _, port = (address or "").rpartition(":")
    if not port.isdecimal():
        return  # no address, or one of Ray's keywords
    try:
        socket.create_connection((host.removeprefix("ray://").strip("[]"), int(port)), 10).close()
    except OSError:
        raise UserError(
            f"prepare.engine=ray: no cluster answers at {address}",
            fix="start it; or `ray stop` and `unset RAY_ADDRESS`, and one is started here for the "
            "time it takes; or prepare.engine=local",
        ) from None


@contextmanager
def _cluster() -> Iterator[Any]:
    """Yields the package `ray`, connected; shuts down a cluster that was started here.

    Raises:
        UserError: Ray is missing, its cluster is unreachable, or a block's workers died.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import_module("ray.data")
        ray: Any = import_module("ray")
    except ImportError as error:
        raise UserError(
            f"prepare.engine=ray needs the package {error.name}",
            fix='pip install -e ".[ray]", or prepare.engine=local',
        ) from None
    connected = ray.is_initialized()
    if not connected:
        _check_answers(
            os.environ.get("RAY_ADDRESS") or ray._private.services.find_bootstrap_address(None)
        )
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise UserError(
                f"prepare.engine=ray: no cluster can be reached or started: {first_line(error)}",
                fix="check RAY_ADDRESS, RAY_AUTH_MODE and `ray status`, or prepare.engine=local",
            ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        raise UserError(
            f"prepare.engine=ray: a block's worker died {1 + _RETRIES} times: {first_line(error)}",
            fix="look into Ray's logs; where memory is short, set a lower prepare.workers",
        ) from error
    finally:
        if not connected:
            ray.shutdown()
