"""Who does the blocks of a stage: this process one after the other, or Ray's workers at once.

Either way a block is the same call, which writes the block's files and its marker into the
workspace, so that the bytes don't depend on the engine, and one may go on where another stopped.
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

from retro_lab.config.errors import UserError
from retro_lab.config.schema import EngineKind, PrepareConfig

from .stage import JSON

_RETRIES = 3  # of a block whose worker died; a block that kills every worker would never end

Work = Callable[[int, int], JSON]
"""Does the block (start, stop) and returns its marker."""


class Engine(Protocol):
    """What does blocks."""

    def run(self, work: Work, blocks: Sequence[tuple[int, int]]) -> Iterator[JSON]:
        """The markers of all blocks (start, stop), each as soon as it is done, in any order."""
        ...


class LocalEngine:
    """One block after the other, in this process."""

    def run(self, work: Work, blocks: Sequence[tuple[int, int]]) -> Iterator[JSON]:
        for start, stop in blocks:
            yield work(start, stop)


@dataclass(frozen=True)
class RayEngine:
    """Blocks side by side on the workers of a Ray cluster, that of RAY_ADDRESS or this machine.

    The machines see the same files under the same paths and have the same packages. A worker that
    dies costs the block it had, which another one does again.

    Attributes:
        workers: processes; None takes as many as the cluster has cores, or GPUs for.
        gpus_per_worker: GPUs each of them holds.
    """

    workers: int | None = None
    gpus_per_worker: float = 0.0

    def run(self, work: Work, blocks: Sequence[tuple[int, int]]) -> Iterator[JSON]:
        """As of `Engine`; `work` is pickled. A single block isn't worth a cluster and is done here.

        Raises:
            UserError: Ray isn't installed, has too few GPUs, or its workers die again and again.
        """
        if len(blocks) == 1:
            yield from LocalEngine().run(work, blocks)
            return
        with _cluster() as ray:
            strategy = ray.data.ActorPoolStrategy(size=self._size(ray, len(blocks)))
            rows = [{"start": start, "stop": stop} for start, stop in blocks]
            with warnings.catch_warnings():
                # Restarts and retries have no named arguments yet, and others are deprecated.
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
    """The engine of a configuration; Ray is looked for when there is a block to do."""
    if config.engine is EngineKind.ray:
        return RayEngine(config.workers, config.gpus_per_worker)
    return LocalEngine()


class _Worker:
    """What a process of the cluster holds: the work, with all that it has opened."""

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
        """The marker, or what was raised: Ray would pass on its words only."""
        try:
            done = self._work(row["start"], row["stop"])
        except Exception as error:
            error.add_note(f"on {socket.gethostname()}:\n{traceback.format_exc()}")
            return {"done": _packed(error)}
        return {"done": pickle.dumps(done)}


def _packed(error: Exception) -> bytes:
    """The pickled exception; its words, where it could not be unpickled again."""
    try:
        pickle.loads(packed := pickle.dumps(error))
    except Exception:
        return pickle.dumps(RuntimeError("\n".join([repr(error), *error.__notes__])))
    return packed


def _check_answers(address: str | None) -> None:
    """Refuses the address of a cluster that is gone, which Ray tries for a quarter of an hour.

    A cluster that was not ended by `ray stop` leaves its address behind on its machine.
    """
    host, _, port = (address or "").rpartition(":")
    if not port.isdecimal():
        return  # none, or a word that Ray knows
    try:
        socket.create_connection((host.removeprefix("ray://").strip("[]"), int(port)), 10).close()
    except OSError:
        raise UserError(
            f"prepare.engine=ray: no cluster answers at {address}",
            fix="start it; or `ray stop` and `unset RAY_ADDRESS`, and one is started here for the "
            "time it takes; or prepare.engine=local",
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _cluster() -> Iterator[Any]:
    """The package `ray`, connected; a cluster that was started here ends with it.

    Raises:
        UserError: Ray isn't installed, or its cluster is gone; or, from the body, a block's workers
            died.
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
                f"prepare.engine=ray: no cluster can be reached or started: {_first_line(error)}",
                fix="check RAY_ADDRESS, RAY_AUTH_MODE and `ray status`, or prepare.engine=local",
            ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        raise UserError(
            f"prepare.engine=ray: a block's worker died {1 + _RETRIES} times: {_first_line(error)}",
            fix="look into Ray's logs; where memory is short, set a lower prepare.workers",
        ) from error
    finally:
        if not connected:
            ray.shutdown()
