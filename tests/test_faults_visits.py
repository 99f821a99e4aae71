"""Viewers that come and go in great numbers, and leave at every stage of the exchange: nothing of them stays.

`make soak` has ten thousand of them come; VIZPIPE_VISITS says how many.
"""

import gc
import logging
import os
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from support import EVENTS, Connection, connect, make_app, serve, tasks_living, until, watch

from vizpipe_trio import Event, Pipe

VISITS = int(os.environ.get("VIZPIPE_VISITS", "600"))
ROUNDS = 3
AT_ONCE = 25
PLACES = 100


async def leave_before_the_headers(url: str) -> None:
    async with connect(url):
        await trio.sleep(random.uniform(0, 0.002))


async def leave_mid_header(url: str) -> None:
    async with connect(url) as viewer:
        await viewer.stream.send_all(b"GET /api/viz/events HTTP/1.1\r\nHost: 127.0")


async def leave_right_after_the_headers(url: str) -> None:
    async with connect(url) as viewer:
        await viewer.request(EVENTS)
        await trio.sleep(random.uniform(0, 0.005))


async def leave_before_the_first_event(url: str) -> None:
    async with watch(url):
        pass


async def leave_mid_event(url: str) -> None:
    async with watch(url) as viewer:
        await viewer.frames(random.randrange(3))
        await viewer.stream.receive_some(random.randrange(1, 100))


async def leave_half(url: str) -> None:
    """Say that nothing more will be sent, and read what still comes."""
    async with watch(url) as viewer:
        await viewer.stream.send_eof()
        while await viewer.stream.receive_some():
            pass


async def leave_with_a_reset(url: str) -> None:
    async with watch(url) as viewer:
        reset(viewer)


def reset(viewer: Connection) -> None:
    viewer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


STAGES: list[Callable[[str], Awaitable[None]]] = [
    leave_before_the_headers,
    leave_mid_header,
    leave_right_after_the_headers,
    leave_before_the_first_event,
    leave_mid_event,
    leave_half,
    leave_with_a_reset,
]


async def leave_while_the_pipe_stops(url: str, came: Callable[[], None]) -> None:
    async with watch(url) as viewer:
        came()
        with trio.move_on_after(random.uniform(0, 0.05)):
            await viewer.rest()
        if random.random() < 0.5:
            reset(viewer)


async def one_round(visits: int) -> None:
    """Open a server, have viewers come and go, stop the pipe under the last of them."""
    pipe = Pipe()
    # As long as it takes until those are forgotten that left without having asked.
    async with serve(make_app(pipe, max_clients=PLACES), seconds=300, keep_alive_timeout=3) as url:
        await until(lambda: pipe.statistics().running)
        gc.collect()  # what other tests have left behind is gone before it is counted
        before = tasks_living(), open_files()
        stages = iter(random.choices(STAGES, k=visits))
        served = 0

        async def visit() -> None:
            nonlocal served
            for leave in stages:
                # Where the machine stalls for that long, Hypercorn gives up who has not asked yet.
                with suppress(trio.BrokenResourceError, EOFError):
                    await leave(url)
                    served += 1

        async def emit() -> None:
            while True:
                pipe.emit(Event(subject="x" * 300))
                await trio.sleep(0.002)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(emit)
            async with trio.open_nursery() as visitors:
                for _ in range(AT_ONCE):
                    visitors.start_soon(visit)
            nursery.cancel_scope.cancel()
        assert served > visits * 0.5
        await until(lambda: pipe.statistics().clients == 0 and (tasks_living(), open_files()) == before)

        came = Counter[str]()
        async with trio.open_nursery() as last:
            for _ in range(PLACES):  # all of them are free
                last.start_soon(leave_while_the_pipe_stops, url, lambda: came.update(["one"]))
            await until(lambda: came["one"] == PLACES)
            pipe.stop()
        await until(lambda: pipe.statistics().clients == 0)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def ours_living() -> Counter[str]:
    """Return how many objects of the package, and of the server below it, are there.

    Without cancel scopes: Trio forgets those that had a deadline when there are a thousand of them.
    """
    gc.collect()
    return Counter(
        type(thing).__qualname__
        for thing in gc.get_objects()
        if str(type(thing).__module__).startswith(("vizpipe_trio", "hypercorn", "trio", "quart", "h11"))
        and type(thing).__name__ not in {"CancelScope", "CancelReason"}
    )


async def test_of_all_that_come_and_go_nothing_stays(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    await one_round(50)  # what is made once is made by then
    files, living, objects = open_files(), ours_living(), len(gc.get_objects())
    for _ in range(ROUNDS):
        await one_round(VISITS // ROUNDS - PLACES)
    assert open_files() == files
    assert ours_living() - living == Counter()
    assert len(gc.get_objects()) - objects < 2000  # those scopes, with what is in them
    assert caplog.messages == []
