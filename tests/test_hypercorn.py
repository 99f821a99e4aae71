"""Viewers that stop reading, on real sockets: what Hypercorn alone does, and what it does with our help."""

import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio
from support import Connection, connect, make_app, until, watch

from vizpipe_trio import Event, Pipe
from vizpipe_trio.hypercorn import PromptEnd, StreamConfig, guarded_bind, serve

GRACE = 0.3


def quiet(config: Config) -> Config:
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = GRACE
    config.errorlog = logging.getLogger("hypercorn")
    return config


@asynccontextmanager
async def viewers(
    url: str, count: int, receive_buffer: int | None = None
) -> AsyncGenerator[list[Connection]]:
    """Open some event streams. A small receive buffer is full soon."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(watch(url, receive_buffer=receive_buffer)) for _ in range(count)
        ]


async def fill(pipe: Pipe) -> None:
    """Emit more than a small receive buffer and the kernel hold for a client."""
    for _ in range(40):
        for _ in range(20):
            pipe.emit(Event(subject="x" * 1000))
        await trio.sleep(0.005)


async def ended_properly(connection: Connection) -> bool:
    """Read to the end of the body, and then of the connection."""
    while await connection.chunk():
        pass
    return await connection.stream.receive_some() == b""


async def test_a_client_that_stops_reading_is_given_up_and_the_others_notice_nothing() -> None:
    pipe, end = Pipe(), trio.Event()
    config = StreamConfig()
    config.client_timeout = 1
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            server = partial(serve, make_app(pipe), quiet(config), pipe, shutdown_trigger=end.wait)
            [address] = await nursery.start(server)
            async with viewers(address, 1, receive_buffer=4096), viewers(address, 1) as [healthy]:

                async def read() -> None:
                    assert await ended_properly(healthy)

                nursery.start_soon(read)
                await fill(pipe)
                began = trio.current_time()
                await until(lambda: pipe.statistics().clients == 1)
                assert trio.current_time() - began < 5
                end.set()
                await until(lambda: pipe.statistics().clients == 0)


async def test_shutdown_ends_healthy_streams_at_once_and_stuck_ones_after_the_grace() -> None:
    pipe, end = Pipe(), trio.Event()
    app = make_app(pipe)
    shut_down = trio.Event()
    times: list[float] = []

    @app.after_serving
    async def note() -> None:  # noqa: ASYNC124 - the framework's interface
        shut_down.set()

    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            server = partial(serve, app, quiet(StreamConfig()), pipe, shutdown_trigger=end.wait)
            [address] = await nursery.start(server)
            async with viewers(address, 3, receive_buffer=4096), viewers(address, 20) as healthy:

                async def read(connection: Connection) -> None:
                    assert await ended_properly(connection)
                    times.append(trio.current_time())

                for connection in healthy:
                    nursery.start_soon(read, connection)
                await fill(pipe)
                began = trio.current_time()
                end.set()
                await shut_down.wait()
                took = trio.current_time() - began
    assert len(times) == 20
    assert max(times) - began < GRACE
    assert GRACE <= took < GRACE + 1


async def test_hypercorn_alone_never_ends_while_a_client_is_stuck() -> None:
    """When this fails, a release of Hypercorn has mended it: see what `serve` is still needed for."""
    pipe, end = Pipe(), trio.Event()
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            server = partial(hypercorn.trio.serve, make_app(pipe), quiet(Config()), shutdown_trigger=end.wait)  # pyright: ignore[reportUnknownMemberType]
            [address] = await nursery.start(server)
            async with viewers(address, 1, receive_buffer=4096):
                await fill(pipe)
                pipe.stop()
                end.set()
                await trio.sleep(GRACE + 1)
                assert nursery.child_tasks


@pytest.mark.parametrize("helped", [True, False])
async def test_a_connection_is_closed_when_its_response_asks_for_it(*, helped: bool) -> None:
    """Without help it is not; when that fails, a release of Quart-Trio has mended it."""
    end = trio.Event()
    app = QuartTrio("tests")

    @app.get("/")
    async def index() -> str:  # noqa: ASYNC124 - the framework's interface
        return "hello"

    asgi: Any = PromptEnd(app) if helped else app
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            server = partial(hypercorn.trio.serve, asgi, quiet(Config()), shutdown_trigger=end.wait)  # pyright: ignore[reportUnknownMemberType]
            [address] = await nursery.start(server)
            closed = False
            async with connect(address) as connection:
                await connection.request("/", b"Connection: close")
                with trio.move_on_after(1):
                    while await connection.stream.receive_some():
                        pass
                    closed = True
            end.set()
    assert closed is helped


def test_a_configuration_file_gets_a_socket_with_the_same_limits() -> None:
    bind = guarded_bind("127.0.0.1:0", client_timeout=7)
    with socket.socket(fileno=int(bind.removeprefix("fd://"))) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


def test_a_system_without_the_limit_is_told_of_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    config = quiet(StreamConfig())
    with pytest.warns(RuntimeWarning, match="cannot give up a client"):
        [listener] = config.create_sockets().insecure_sockets
    listener.close()
