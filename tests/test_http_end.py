"""How streams over real sockets end, and what is left behind: nothing."""

import socket
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Literal

import pytest
import trio
from quart_trio import QuartTrio
from support import (
    EVENTS,
    Connection,
    connect,
    make_app,
    sequence,
    serve,
    tasks_living,
    until,
    watch,
    width,
)

from vizpipe_trio import Event, Pipe
from vizpipe_trio.quart import viz_blueprint


async def test_stopping_the_pipe_ends_every_stream_properly() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as one, watch(url) as two, watch(url) as three:
        pipe.emit(Event())
        assert sequence(await one.frame()) == 1
        pipe.emit(Event())
        pipe.stop()
        assert [sequence(frame) for frame in await one.rest()] == [2]
        for viewer in (two, three):
            assert [sequence(frame) for frame in await viewer.rest()] == [1, 2]
        await until(lambda: pipe.statistics().clients == 0)


async def test_the_chunk_that_ends_the_body_is_the_last_thing_on_the_wire() -> None:
    pipe = Pipe()
    async with serve(make_app(pipe)) as url, watch(url) as viewer:
        pipe.stop()
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += (received := await viewer.stream.receive_some())
            assert received
        assert data == b"0\r\n\r\n"


async def test_cancelling_the_pipe_ends_every_stream_properly() -> None:
    pipe = Pipe()
    app = QuartTrio("tests")
    app.register_blueprint(viz_blueprint(pipe, token=None))
    async with serve(app) as url, trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        async with watch(url) as one, watch(url) as two:
            pipe.emit(Event())
            assert sequence(await one.frame()) == sequence(await two.frame()) == 1
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert await one.rest() == await two.rest() == []


async def test_stream_of_a_pipe_that_is_not_running_yet_waits_for_it() -> None:
    pipe = Pipe()
    app = QuartTrio("tests")
    app.register_blueprint(viz_blueprint(pipe, token=None))
    async with serve(app) as url, watch(url) as viewer, trio.open_nursery() as nursery:
        pipe.emit(Event())
        await nursery.start(pipe.run)
        assert sequence(await viewer.frame()) == 1
        pipe.stop()


async def test_stream_that_begins_as_the_pipe_ends_ends_at_once() -> None:
    pipe = Pipe()
    app = make_app(pipe)

    @app.after_request
    async def stop(response: Any) -> Any:
        pipe.stop()  # after the view has said 200, and before the stream begins
        await until(lambda: not pipe.statistics().running)
        return response

    async with serve(app) as url, watch(url) as viewer:
        assert await viewer.rest() == []


async def test_viewer_that_dawdles_at_the_end_is_told_what_it_missed() -> None:
    pipe = Pipe(flush_interval=0)
    async with serve(make_app(pipe)) as url, watch(url, receive_buffer=4096) as viewer:
        for _ in range(1000):
            pipe.emit(Event(subject="x" * 4000))
        await until(lambda: pipe.statistics().broadcast == 1000)
        pipe.stop()
        began = trio.current_time()
        number = 0
        while frame := await viewer.frame():
            number += width(frame, "slow")
            if frame.startswith(b"id: "):
                assert sequence(frame) == number
                await trio.sleep(0.05)  # it dawdles: for all of them it would take 50 seconds
        assert number == 1000
        assert pipe.statistics().missed > 100
        assert trio.current_time() - began < 20


FORGOTTEN_AFTER = 3
"""Seconds after which Hypercorn forgets a connection that left without having asked."""


async def end_without_a_word(client: Connection) -> None:
    """Reset the connection."""
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.stream.aclose()


@pytest.mark.parametrize("request_it", [False, True], ids=["no request", "a request"])
async def test_client_that_never_reads_leaves_nothing_behind(request_it: Literal[False, True]) -> None:
    pipe = Pipe(client_capacity=4, flush_interval=0)
    async with serve(make_app(pipe), keep_alive_timeout=FORGOTTEN_AFTER) as url:
        before = tasks_living()
        async with connect(url, receive_buffer=4096) as client:
            if request_it:
                await client.request(EVENTS)
                await until(lambda: pipe.statistics().clients == 1)
            else:
                await until(lambda: tasks_living() > before)
            for _ in range(1000):
                pipe.emit(Event(subject="x" * 1000))
            await until(lambda: pipe.statistics().queued == 0)
        await until(lambda: pipe.statistics().clients == 0 and tasks_living() == before)


async def leave_before_the_request(client: Connection) -> None:
    await client.stream.send_all(b"GET /api/viz/ev")


async def leave_before_the_response(client: Connection) -> None:
    await client.request(EVENTS)


async def leave_after_the_headers(client: Connection) -> None:
    await client.request(EVENTS)
    await client.head()


async def leave_in_the_middle(client: Connection) -> None:
    await client.request(EVENTS)
    await client.head()
    await client.frames(5)


async def leave_with_a_reset(client: Connection) -> None:
    await leave_in_the_middle(client)
    await end_without_a_word(client)


async def leave_half(client: Connection) -> None:
    """Send no more, and read what still comes."""
    await leave_in_the_middle(client)
    await client.stream.send_eof()
    with pytest.raises(EOFError):
        await client.rest()


LEAVE: list[Callable[[Connection], Any]] = [
    leave_before_the_request,
    leave_before_the_response,
    leave_after_the_headers,
    leave_in_the_middle,
    leave_with_a_reset,
    leave_half,
]


async def test_a_hundred_that_come_and_go_leave_nothing_behind() -> None:
    pipe = Pipe()

    async def visit(url: str, leave: Callable[[Connection], Any]) -> None:
        async with connect(url) as client:
            await leave(client)

    async def keep_emitting() -> None:
        while True:
            pipe.emit(Event())
            await trio.sleep(0.001)

    async with serve(make_app(pipe, max_clients=100), keep_alive_timeout=FORGOTTEN_AFTER) as url:
        before = tasks_living()
        async with trio.open_nursery() as visitors:
            visitors.start_soon(keep_emitting)
            async with trio.open_nursery() as hundred:
                for number in range(100):
                    hundred.start_soon(visit, url, LEAVE[number % len(LEAVE)])
            visitors.cancel_scope.cancel()
        await until(lambda: pipe.statistics().clients == 0 and tasks_living() == before)
        async with AsyncExitStack() as places:  # none is lost
            for _ in range(100):
                await places.enter_async_context(watch(url))
            assert pipe.statistics().clients == 100
