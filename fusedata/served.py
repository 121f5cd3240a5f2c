"""Servers kept busy from a thread of its own, while the caller writes down what has come."""

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from time import monotonic
from typing import NamedTuple, TypeVar

from fusedata.errors import FusedataError
from fusedata.http import CONNECT_SECONDS, KEPT_SECONDS, Client, check_urls, find_key
from fusedata.profile import Served

J = TypeVar("J")
R = TypeVar("R")

FLUSH_SECONDS = 30.0
"""What has come is handed over after this long, even where it is no whole group: a kill loses little."""
_BEHIND = 2
"""Groups that may wait for a slow caller before no more requests go out."""


class _Life(NamedTuple):
    loop: asyncio.AbstractEventLoop
    client: Client
    over: asyncio.Event


class Servers:
    """Servers of one model. Connections are opened by the first `ask` and kept until `close`, or the process' end."""

    def __init__(self, served: Served, error: type[FusedataError]) -> None:
        """Raise ConfigError for a wrong URL or a missing key; `ask` raises `error` for what is broken later."""
        check_urls(served)
        self._served, self._error, self._key = served, error, find_key(served)
        self._life: _Life | None = None
        self._end: Callable[[], object] = lambda: None

    def ask(
        self,
        jobs: Iterable[J],
        work: Callable[[Client, J], Awaitable[Iterable[R]]],
        size: int,
        seconds: float = FLUSH_SECONDS,
    ) -> Iterator[list[R]]:
        """Do `work` on all jobs, `in_flight` at a time, and give what comes of them in groups of `size`, in any order.

        A group is smaller where `seconds` have passed since the last one, and at the end. `jobs` is drawn from, in the
        servers' thread, as places become free, and never far ahead of a caller that is slow. Where something raises,
        what had come before is given first.
        """
        life = self._life = self._life or self._begin()
        groups: SimpleQueue[list[R] | None] = SimpleQueue()
        flow = _flow(life.client, iter(jobs), work, self._served.in_flight, size, seconds, groups)
        running = asyncio.run_coroutine_threadsafe(flow, life.loop)
        running.add_done_callback(lambda _: groups.put(None))
        try:
            while (group := groups.get()) is not None:
                yield group
            running.result()
        finally:
            running.cancel()

    def close(self) -> None:
        """Cancel what is on its way and close all connections; a later `ask` begins anew."""
        self._end()
        self._life = None

    def _begin(self) -> _Life:
        begun: Future[_Life] = Future()
        thread = threading.Thread(
            target=asyncio.run,
            args=(_live(self._served, self._key, self._error, begun),),
            name="fusedata-servers",
            daemon=True,  # a build that was stopped does not wait for its servers
        )
        thread.start()
        life = begun.result()
        self._end = weakref.finalize(self, _end, life, thread)
        return life


def _end(life: _Life, thread: threading.Thread) -> None:
    life.loop.call_soon_threadsafe(life.over.set)
    if thread is not threading.current_thread():  # the garbage collector may run in any
        thread.join()


async def _live(served: Served, key: str | None, error: type[FusedataError], begun: "Future[_Life]") -> None:
    """Hold a session open until it is over, then cancel what still runs in it."""
    import aiohttp

    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    timeout = aiohttp.ClientTimeout(total=served.timeout, sock_connect=min(CONNECT_SECONDS, served.timeout))
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        over = asyncio.Event()
        begun.set_result(_Life(asyncio.get_running_loop(), Client(served, session, key, error), over))
        await over.wait()  # what runs is cancelled before the session closes: it would only try again
        await _cancelled(asyncio.all_tasks() - {asyncio.current_task()})


async def _cancelled(tasks: Iterable["asyncio.Task[object] | None"]) -> None:
    running = [task for task in tasks if task]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _flow(
    client: Client,
    jobs: Iterator[J],
    work: Callable[[Client, J], Awaitable[Iterable[R]]],
    in_flight: int,
    size: int,
    seconds: float,
    groups: "SimpleQueue[list[R] | None]",
) -> None:
    finished: list[R] = []
    last = monotonic()

    def hand_over() -> None:
        nonlocal last
        groups.put(finished[:size])
        del finished[:size]
        last = monotonic()

    async def place() -> None:
        for job in jobs:  # shared by all places: whichever is free draws the next
            finished.extend(await work(client, job))
            while len(finished) >= size:
                hand_over()
            while groups.qsize() > _BEHIND:  # noqa: ASYNC110 - the caller is a thread, not of this loop
                await asyncio.sleep(0.02)

    places = {asyncio.create_task(place()) for _ in range(in_flight)}
    try:
        waiting = places
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=seconds / 4, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            if finished and monotonic() - last >= seconds:
                hand_over()
    finally:
        await _cancelled(places)
        if finished:
            hand_over()
