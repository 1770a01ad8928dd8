"""Runs the service's work one after the other, in one thread beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

from .limits import Limits, ServiceError, too_busy

_T = TypeVar("_T")
_END = object()


class Worker:
    """A thread that does one thing at a time, of which only so much may wait."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.places = threading.BoundedSemaphore(limits.max_waiting)
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="search")
        self.stepping = asyncio.Lock()

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of `work`; 503 if too many wait, 504 if it takes too long."""
        self._take_place()
        future = self.pool.submit(work)
        future.add_done_callback(lambda _: self.places.release())
        return await self._result(future, self.limits.timeout)

    async def steps(self, start: Callable[[], Iterator[_T]]) -> AsyncGenerator[_T, None]:
        """The items of the iterator that `start` returns, each computed when it is asked for.

        There is one such iterator at a time, and `run` gets its turn between two items. Whoever
        stops asking stops the computation.

        Raises:
            ServiceError: 503 if too many wait, 504 if all items together take too long.
        """
        self._take_place()
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.limits.timeout
        try:
            await self._own_turn(deadline)
            try:
                items = await self._result(self.pool.submit(start), deadline - clock())
                while True:
                    step = self.pool.submit(next, items, _END)
                    item = await self._result(step, deadline - clock())
                    if item is _END:
                        return
                    yield cast("_T", item)
            finally:
                self.stepping.release()
        finally:
            self.places.release()

    def stop(self) -> None:
        """Waits for the work that is being done."""
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _take_place(self) -> None:
        if not self.places.acquire(blocking=False):
            raise too_busy(self.limits)

    async def _own_turn(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self.stepping.acquire()
        except TimeoutError:
            raise self._too_late() from None

    async def _result(self, future: Future[_T], seconds: float) -> _T:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError:
            raise self._too_late() from None

    def _too_late(self) -> ServiceError:
        return ServiceError(
            504,
            "timeout",
            f"no result in {self.limits.timeout:g} seconds",
            "ask fewer queries, a smaller k or fewer max_tokens a request, or serve with a "
            "larger timeout",
        )
