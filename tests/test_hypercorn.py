"""Viewers that stop reading, on real sockets: what Hypercorn alone does, and what it does with our help."""

import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config
from quart_trio import QuartTrio
from support import EVENTS, PREAMBLE, Connection, connect, get, make_app, sequence, until, watch
from trio.testing import wait_all_tasks_blocked

from vizpipe_trio import Event, Pipe, _sockets
from vizpipe_trio._life import POLL_SECONDS
from vizpipe_trio._stream import LAST_WORDS_SECONDS
from vizpipe_trio.hypercorn import StreamGuard, serve
from vizpipe_trio.testing import stalled_client

GRACE = 0.3


def quiet(bind: str = "127.0.0.1:0", keep_alive_timeout: float = 15) -> Config:
    config = Config()
    config.bind = [bind]
    config.graceful_timeout = GRACE
    config.keep_alive_timeout = keep_alive_timeout
    config.errorlog = logging.getLogger("hypercorn")
    return config


@asynccontextmanager
async def serving(
    app: Any, pipe: Pipe, end: trio.Event, *, client_timeout: float = 30
) -> AsyncGenerator[str]:
    """Serve an app by our `serve` until ``end`` is set, and give its address."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            server = partial(
                serve, app, quiet(), pipe, client_timeout=client_timeout, shutdown_trigger=end.wait
            )
            [address] = await nursery.start(server)
            yield address


@asynccontextmanager
async def serving_alone(
    app: Any, end: trio.Event, bind: str = "127.0.0.1:0", *, keep_alive_timeout: float = 15
) -> AsyncGenerator[tuple[str, trio.Nursery]]:
    """Serve an app by Hypercorn alone."""
    config = quiet(bind, keep_alive_timeout)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            server = partial(hypercorn.trio.serve, app, config, shutdown_trigger=end.wait)  # pyright: ignore[reportUnknownMemberType]
            [address] = await nursery.start(server)
            yield address, nursery


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


async def read_all(viewer: Connection) -> None:
    """Read a stream to its proper end, in which nothing is missing."""
    assert [sequence(frame) for frame in await viewer.rest()] == list(range(1, 801))
    assert await viewer.stream.receive_some() == b""


async def stuck_socket(url: str, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114 - used here only
    async with stalled_client(url + EVENTS):
        task_status.started()
        await trio.sleep_forever()


async def kill(process: trio.Process) -> None:  # noqa: ASYNC124 - Trio's interface
    process.kill()


async def stopped_curl(url: str, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114 - as above
    command = ["curl", "--no-buffer", "--silent", url + EVENTS]
    async with trio.open_nursery() as nursery:
        curl: trio.Process = await nursery.start(
            partial(trio.run_process, command, check=False, stdout=subprocess.PIPE, deliver_cancel=kill)
        )
        assert curl.stdout is not None
        begin = b""
        while len(begin) < len(PREAMBLE):
            begin += await curl.stdout.receive_some() or pytest.fail(f"it ended: {begin!r}")
        assert begin == PREAMBLE
        curl.send_signal(signal.SIGSTOP)
        task_status.started()


@pytest.mark.parametrize("stuck_client", [stuck_socket, stopped_curl])
async def test_a_client_that_stops_reading_is_given_up_and_the_others_notice_nothing(
    stuck_client: Callable[..., Awaitable[None]],
) -> None:
    pipe, end = Pipe(), trio.Event()
    async with (
        serving(make_app(pipe), pipe, end, client_timeout=1) as address,
        viewers(address, 1) as [healthy],
        trio.open_nursery() as clients,
        trio.open_nursery() as nursery,
    ):
        await clients.start(stuck_client, address)
        nursery.start_soon(read_all, healthy)
        await fill(pipe)
        await until(lambda: pipe.statistics().clients == 1)
        assert pipe.statistics().missed == 0
        clients.cancel_scope.cancel()
        end.set()


async def test_a_client_that_was_connected_before_the_first_request_is_given_up_too() -> None:
    pipe, end = Pipe(), trio.Event()
    async with (
        serving(make_app(pipe), pipe, end, client_timeout=1) as address,
        connect(address, receive_buffer=4096) as early,
    ):
        async with viewers(address, 1):
            await early.request("/api/viz/events")
            await until(lambda: pipe.statistics().clients == 2)
        await until(lambda: pipe.statistics().clients == 1)
        await fill(pipe)
        await until(lambda: pipe.statistics().clients == 0)
        end.set()


async def test_shutdown_ends_healthy_streams_at_once_and_stuck_ones_after_the_grace() -> None:
    pipe, end = Pipe(), trio.Event()
    app = make_app(pipe)
    shut_down = trio.Event()
    times: list[float] = []

    @app.after_serving
    async def note() -> None:  # noqa: ASYNC124 - the framework's interface
        shut_down.set()

    async with (
        serving(app, pipe, end) as address,
        viewers(address, 3, receive_buffer=4096),
        viewers(address, 20) as healthy,
        trio.open_nursery() as nursery,
    ):

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
    assert GRACE <= took < GRACE + 10


async def test_the_guard_stops_the_pipe_when_somebody_else_shuts_down_the_server() -> None:
    pipe, end = Pipe(), trio.Event()
    guard = StreamGuard(make_app(pipe), pipe, graceful_timeout=GRACE)
    async with serving_alone(guard, end) as (address, _), viewers(address, 1) as [healthy]:
        end.set()
        assert await ended_properly(healthy)
    assert pipe.statistics().stopped


@asynccontextmanager
async def watch_by_file(path: Path) -> AsyncGenerator[Connection]:
    """Open an event stream over a Unix socket, as a proxy on this machine does."""
    async with await trio.open_unix_socket(path) as stream:
        viewer = Connection(stream)
        await viewer.request(EVENTS, b"Authorization: Bearer secret")
        assert (await viewer.head())[0] == 200
        assert await viewer.frame() == PREAMBLE
        yield viewer


async def test_the_guard_ends_streams_over_a_unix_socket_too(tmp_path: Path) -> None:
    pipe, end = Pipe(), trio.Event()
    guard = StreamGuard(make_app(pipe, token="secret"), pipe, graceful_timeout=GRACE)
    async with AsyncExitStack() as clients, serving_alone(guard, end, f"unix:{tmp_path}/socket"):
        path = tmp_path / "socket"
        [healthy, _stuck] = [await clients.enter_async_context(watch_by_file(path)) for _ in range(2)]
        await fill(pipe)
        end.set()
        assert await ended_properly(healthy)
    assert pipe.statistics().stopped


@pytest.mark.parametrize("way", ["shut down", "cancelled"])
async def test_an_app_that_was_served_before_is_served_as_if_it_were_new(way: str) -> None:
    pipe = Pipe()
    app = make_app(pipe)

    @app.get("/slow")
    async def slow() -> str:
        await trio.sleep(1)  # long enough to be reset in
        return "done"

    guard = StreamGuard(app, pipe, graceful_timeout=0)
    for _ in range(2):
        end = trio.Event()
        async with serving_alone(guard, end) as (address, server):
            await trio.sleep(3 * POLL_SECONDS)
            assert (await get(address, "/slow")).text == "done"
            if way == "cancelled":
                server.cancel_scope.cancel()
            else:
                guard.begin_shutdown()
                end.set()


async def test_a_server_that_is_cancelled_ends_though_a_client_is_stuck() -> None:
    pipe = Pipe()
    async with AsyncExitStack() as clients:
        async with serving_alone(StreamGuard(make_app(pipe), pipe), trio.Event()) as (address, server):
            await clients.enter_async_context(watch(address, receive_buffer=4096))
            await fill(pipe)
            began = trio.current_time()
            server.cancel_scope.cancel()
        assert trio.current_time() - began < 15  # and not only when the kernel gives up the client


async def test_what_was_sent_before_the_server_is_cancelled_arrives() -> None:
    sent = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await trio.sleep_forever()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"12000")]})
        await send({"type": "http.response.body", "body": b"x" * 12_000})
        sent.set()

    async with AsyncExitStack() as clients:
        async with serving_alone(StreamGuard(app, Pipe()), trio.Event()) as (address, server):
            client = await clients.enter_async_context(connect(address, receive_buffer=4096))
            await client.request("/")
            await sent.wait()
            server.cancel_scope.cancel()
        await client.head()
        assert await client.exactly(12_000) == b"x" * 12_000


async def test_requests_go_on_when_the_apps_lifespan_has_failed() -> None:
    pipe, end = Pipe(), trio.Event()
    app = make_app(pipe)
    failed = trio.Event()

    async def fail() -> None:  # noqa: ASYNC124 - a task
        failed.set()
        raise RuntimeError("a task of the app's")

    @app.get("/fail")
    async def index() -> str:
        app.nursery.start_soon(fail)
        await failed.wait()
        await trio.sleep(0.5)  # long enough to be ended in
        return "done"

    async with serving_alone(StreamGuard(app, pipe), end) as (address, _):
        assert (await get(address, "/fail")).text == "done"
        end.set()


async def test_hypercorn_alone_never_ends_while_a_client_is_stuck() -> None:
    """When this fails, a release of Hypercorn has mended it: see what the guard is still needed for."""
    pipe, end = Pipe(), trio.Event()
    async with (
        serving_alone(make_app(pipe), end) as (address, nursery),
        viewers(address, 1, receive_buffer=4096),
    ):
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

    asgi: Any = StreamGuard(app, Pipe()) if helped else app
    async with serving_alone(asgi, end, keep_alive_timeout=60) as (address, _):
        closed = False
        async with connect(address) as connection:
            await connection.request("/", b"Connection: close")
            with trio.move_on_after(20 if helped else 1):
                while await connection.stream.receive_some():
                    pass
                closed = True
        end.set()
    assert closed is helped


def limits(address: str) -> list[int]:
    """Return the limits of a server's sockets, in milliseconds."""
    port = int(address.rpartition(":")[2])
    return [
        found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for _, found in _sockets._sockets(port)
    ]


async def test_the_limit_is_set_for_the_listener_and_connections_inherit_it() -> None:
    pipe, end = Pipe(), trio.Event()
    async with serving(make_app(pipe), pipe, end, client_timeout=7) as address, viewers(address, 1):
        async with connect(address):  # accepted after the first request
            found = limits(address)
        end.set()
    assert len(found) >= 2
    assert set(found) == {7000}


async def test_the_limit_is_set_for_a_connection_that_was_on_its_way_at_the_first_request() -> None:
    pipe, end = Pipe(), trio.Event()
    guard = StreamGuard(make_app(pipe), pipe, client_timeout=7)
    async with serving_alone(guard, end) as (address, _):
        await wait_all_tasks_blocked()  # only then it listens
        server = "127.0.0.1", int(address.rpartition(":")[2])
        with socket.create_connection(server):
            guard._life.note_server(server)  # before the connection can be accepted
            assert limits(address) == [7000]
            await until(lambda: limits(address) == [7000, 7000])
        end.set()


async def test_a_system_without_the_limit_is_told_of_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    pipe, end = Pipe(), trio.Event()
    with pytest.warns(RuntimeWarning, match="cannot give up a client"):
        async with serving(make_app(pipe), pipe, end):
            end.set()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"client_timeout": 0.5}, "client_timeout must be 1 to 86400 seconds, not 0.5"),
        ({"client_timeout": float("inf")}, "client_timeout must be 1 to 86400 seconds, not inf"),
        ({"client_timeout": float("nan")}, "client_timeout must be 1 to 86400 seconds, not nan"),
        ({"graceful_timeout": -1}, "graceful_timeout must be 0 or more seconds, not -1"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamGuard(None, Pipe(), **limits)


async def test_a_large_response_to_a_slow_client_is_not_cut() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 8_000_000})

    end = trio.Event()
    async with serving_alone(StreamGuard(app, Pipe()), end) as (address, _):
        async with connect(address, receive_buffer=4096) as connection:
            await connection.request("/")
            await connection.head()
            await trio.sleep(LAST_WORDS_SECONDS + 0.2)
            assert len(await connection.chunk()) == 8_000_000
            assert await connection.chunk() == b""
        end.set()


async def test_where_no_sockets_can_be_found_the_pipe_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sockets, "_open_files", list)
    pipe, end = Pipe(), trio.Event()
    async with serving(make_app(pipe), pipe, end) as address, viewers(address, 1):
        await trio.sleep(3 * POLL_SECONDS)
        assert pipe.emit(Event())
        end.set()


def test_a_socket_that_does_not_say_where_it_is_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, once it has been shut down: see getsockname(2) there."""

    def refuse(_: socket.socket) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        found, _ = _sockets.limit(port, 30)
        assert [one.file for one in found] == [listener.fileno()]
        monkeypatch.setattr(socket.socket, "getsockname", refuse)
        assert _sockets.limit(port, 30) == ([], False)


def test_the_hosts_own_sockets_are_left_as_they_are() -> None:
    """Such as one of a database's C library, in a process that sets a time-out for all new sockets."""
    here, there = socket.socketpair()
    with here, there:
        socket.setdefaulttimeout(30)
        try:
            _sockets.limit(1, 30)
        finally:
            socket.setdefaulttimeout(None)
        assert os.get_blocking(here.fileno())


@pytest.mark.parametrize("flags", [0, os.O_NONBLOCK])
def test_the_hosts_own_files_stay_locked(flags: int, tmp_path: Path) -> None:
    """Such as an SQLite database: closing any duplicate of a file lets go of all the process's locks on it."""
    path = tmp_path / "database"
    file = os.open(path, os.O_RDWR | os.O_CREAT | flags)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX)
        _sockets.limit(1, 30)
        lock = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        other = subprocess.run([sys.executable, "-c", lock, path], check=False, capture_output=True)  # noqa: S603 - our own
        assert b"BlockingIOError" in other.stderr
    finally:
        os.close(file)
