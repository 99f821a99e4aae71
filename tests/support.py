"""What the tests over sockets share: a real Hypercorn, and clients that read its bytes."""

import json
import logging
import random
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx  # noqa: ASYNC127 - httpx-sse is made for it
import hypercorn.trio
import pytest
import trio
from httpx_sse import ServerSentEvent, aconnect_sse
from hypercorn.config import Config
from quart_trio import QuartTrio
from trio.testing import wait_all_tasks_blocked

from vizpipe_trio import Pipe
from vizpipe_trio.quart import viz_blueprint

EVENTS = "/api/viz/events"
STATS = "/api/viz/stats"
PREAMBLE = b"retry: 2000\n: vizpipe\n\n"

VIZPIPE = str(Path(sys.executable).with_name("vizpipe"))

# A shell that runs the tests in the background has them, and what they start, ignore Ctrl-C.
WITH_CTRL_C = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def make_app(
    pipe: Pipe,
    *,
    token: str | None = None,
    max_clients: int = 1000,
    heartbeat_interval: float = 15.0,
    http2: bool = False,
    **page: Any,
) -> QuartTrio:
    """Return an app that runs the pipe and shows its events."""
    app = QuartTrio("tests")
    app.register_blueprint(
        viz_blueprint(
            pipe,
            token=token,
            max_clients=max_clients,
            heartbeat_interval=heartbeat_interval,
            http2=http2,
            **page,
        )
    )

    @app.before_serving
    async def start() -> None:
        await app.nursery.start(pipe.run)

    return app


@asynccontextmanager
async def serve(
    app: Any, *, seconds: float = 60, errors_logged: int = 0, port: int = 0, keep_alive_timeout: float = 15
) -> AsyncGenerator[str]:
    """Serve an ASGI app on a loopback port, any free one by default, while in the block; give its address.

    The block has to be done within ``seconds``, and the server must log no other errors than expected. After
    ``keep_alive_timeout`` it closes a connection that has not asked yet, also one that just does, where the
    machine stood still for that long; until then it has not forgotten one that left without having asked.
    """
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 0.1
    config.keep_alive_timeout = keep_alive_timeout
    config.errorlog = logging.getLogger("hypercorn")  # its default also writes to stderr
    end = trio.Event()
    with error_log(errors_logged), trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            # Hypercorn's types have a bare dict in them.
            server = partial(hypercorn.trio.serve, app, config, shutdown_trigger=end.wait)  # pyright: ignore[reportUnknownMemberType]
            addresses = await nursery.start(server)
            await wait_all_tasks_blocked()  # only then it listens
            yield addresses[0]
            end.set()


@contextmanager
def error_log(count: int = 0) -> Generator[None]:
    """Whatever happens in the block, so many errors must be logged."""
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(errors)
    assert len(errors.messages) == count, errors.messages


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


class Connection:
    """One HTTP/1.1 connection that reads no more than it is asked for."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = bytearray()
        self._body = bytearray()

    async def request(
        self, target: str, *headers: bytes, method: str = "GET", host: str = "127.0.0.1"
    ) -> None:
        """Send a request without a body."""
        lines = [f"{method} {target} HTTP/1.1".encode(), b"Host: " + host.encode(), *headers, b"", b""]
        await self.stream.send_all(b"\r\n".join(lines))

    async def head(self) -> tuple[int, dict[str, str]]:
        """Return a response's status and its headers, their names in lower case."""
        first, *lines = (await self._line(b"\r\n\r\n")).decode("ascii").split("\r\n")
        headers = [line.split(": ", 1) for line in lines]
        assert len({name for name, _ in headers}) == len(headers)
        return int(first.split(" ")[1]), {name.lower(): value for name, value in headers}

    async def chunk(self) -> bytes:
        """Return one chunk of a chunked body; nothing for the one that ends it."""
        size = int(await self._line(b"\r\n"), 16)
        data = await self.exactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:size]

    async def exactly(self, size: int) -> bytes:
        """Return so many bytes."""
        while len(self._received) < size:
            await self._receive()
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    async def frame(self) -> bytes:
        """Return one frame of an event stream; nothing at its proper end."""
        while b"\n\n" not in self._body:
            chunk = await self.chunk()
            if not chunk:
                assert self._body == b""
                return b""
            self._body += chunk
        end = self._body.index(b"\n\n") + 2
        frame = bytes(self._body[:end])
        del self._body[:end]
        return frame

    async def frames(self, count: int) -> list[bytes]:
        """Return so many frames."""
        return [await self.frame() for _ in range(count)]

    async def rest(self) -> list[bytes]:
        """Return all frames up to the proper end."""
        frames: list[bytes] = []
        while frame := await self.frame():
            frames.append(frame)
        return frames

    async def _line(self, end: bytes) -> bytes:
        while end not in self._received:
            await self._receive()
        line = await self.exactly(self._received.index(end) + len(end))
        return line.removesuffix(end)

    async def _receive(self) -> None:
        data = await self.stream.receive_some(65_536)
        if not data:
            raise EOFError("the connection was closed in the middle of a response")
        self._received += data


@asynccontextmanager
async def connect(url: str, *, receive_buffer: int | None = None) -> AsyncGenerator[Connection]:
    """Connect to a server; ``receive_buffer`` is SO_RCVBUF, in bytes."""
    with trio.socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        address = httpx.URL(url)
        await sock.connect((address.host, address.port))
        yield Connection(trio.SocketStream(sock))


@asynccontextmanager
async def watch(
    url: str, query: str = "", *headers: bytes, receive_buffer: int | None = None
) -> AsyncGenerator[Connection]:
    """Open an event stream and read its beginning: from here on it gets all events."""
    async with connect(url, receive_buffer=receive_buffer) as viewer:
        await viewer.request(EVENTS + query, *headers)
        status, _ = await viewer.head()
        assert status == 200
        assert await viewer.frame() == PREAMBLE
        yield viewer


class StreamReader:
    """Reads an event stream with a parser that is not ours, into ``events``.

    `run` reads to the end, so the pipe has to be stopped: httpx leaves the generators of
    a stream that is left before to the garbage collector, of which Trio warns.
    """

    def __init__(self, url: str, query: str = "", headers: Mapping[str, str] | None = None) -> None:
        self._target = url + EVENTS + query
        self._headers = dict(headers or {})
        self.events: list[ServerSentEvent] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read the stream to its end; started once its client gets events."""
        async with (
            httpx.AsyncClient(timeout=60, trust_env=False) as client,
            aconnect_sse(client, "GET", self._target, headers=self._headers) as source,
        ):
            async for event in source.aiter_sse():
                if event.retry is None:
                    self.events.append(event)
                else:
                    task_status.started()


@contextmanager
def reserved_port() -> Generator[int]:
    """Give a port that nobody else gets while in the block, for a server that is not there all the time.

    The kernel gives it to no client either. Else one that tries to reach the server while it is not there could be
    connected to itself.
    """
    with socket.socket() as holder:
        while True:
            port = random.randrange(20_000, 30_000)
            with suppress(OSError):
                holder.bind(("127.0.0.1", port))
                break
        # From here on it can be had with this option, as servers do, and not without it, as above.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield port


async def get(url: str, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """Return the response to a GET, read to its end."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        return await client.get(path, headers=headers)


def sequence(frame: bytes) -> int:
    """Return the number in an event's ID."""
    assert frame.startswith(b"id: ")
    return int(frame.partition(b"\n")[0].rpartition(b"-")[2])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what comes by way of a socket's other side, of which no event tells."""
    while not condition():  # noqa: ASYNC110 - as said
        await trio.sleep(0.002)


def tasks_living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def read_json(connection: Connection) -> tuple[int, dict[str, str], Any]:
    """Return a response that is JSON and says how long it is."""
    status, headers = await connection.head()
    assert headers["content-type"] == "application/json"
    return status, headers, json.loads(await connection.exactly(int(headers["content-length"])))


async def ask(url: str, target: str, *headers: bytes, **request: str) -> tuple[int, dict[str, str], Any]:
    async with connect(url) as connection:
        await connection.request(target, *headers, **request)
        return await read_json(connection)


async def last_id(viewer: Connection) -> bytes:
    """Return the ID of the next event."""
    return (await viewer.frame()).partition(b"\n")[0].removeprefix(b"id: ")


def width(frame: bytes, reason: str) -> int:
    """Return how many events a frame stands for: itself, or those that it says are missing."""
    if not frame.startswith(b"event: missed\n"):
        return 1
    gap = json.loads(frame.partition(b"\ndata: ")[2])
    assert gap["reason"] == reason
    return int(gap["missed"])


async def read_line(stream: trio.abc.ReceiveStream) -> bytes:
    """Return the next line, its end included, and read nothing behind it."""
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.receive_some(1) or pytest.fail(f"it ended: {line!r}")
    return line


class Program:
    """A program while it runs; its output is read line by line."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._read = b""

    async def line(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self._read:
            self._read += await self.process.stdout.receive_some() or pytest.fail(f"it ended: {self._read!r}")
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    async def complaint(self) -> str:
        """Return a line of its complaints, where they are apart."""
        assert self.process.stderr is not None
        return (await read_line(self.process.stderr)).decode()

    async def end(self) -> tuple[int, str, str]:
        """Return the exit code, what else it printed, and its complaints where they are apart."""
        assert self.process.stdout is not None
        rest = b"".join([bytes(chunk) async for chunk in self.process.stdout])
        stderr = self.process.stderr
        complaints = b"" if stderr is None else b"".join([bytes(chunk) async for chunk in stderr])
        return await self.process.wait(), (self._read + rest).decode(), complaints.decode()

    async def rest(self) -> str:
        """Return what else it prints, up to its end, which must be a good one."""
        code, rest, _ = await self.end()
        assert code == 0, rest
        return rest


@asynccontextmanager
async def run_program(
    *command: str,
    seconds: float = 120,
    stderr: int = subprocess.STDOUT,
    env: Mapping[str, str] | None = None,
) -> AsyncGenerator[Program]:
    """Run a program while in the block, for at most so long."""
    with trio.fail_after(seconds):
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=stderr, env=env)
        try:
            yield Program(process)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                for stream in (process.stdout, process.stderr):
                    if stream is not None:
                        await stream.aclose()
