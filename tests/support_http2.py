"""HTTP/2 and TLS for the tests over sockets: a client that reads each stream, or not, as a test wants."""

import logging
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import trio
import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from hypercorn.config import Config
from quart_trio import QuartTrio
from support import EVENTS, PREAMBLE, Connection, connect, error_log

from vizpipe_trio import Pipe
from vizpipe_trio.hypercorn import serve

WINDOW = 65_535
"""Bytes that a server may send on a stream before its client says that it took some."""

Transport = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@dataclass
class Answer:
    """What has come on one stream so far."""

    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)
    received: int = 0
    ended: bool = False
    reset: bool = False


class Http2Connection:
    """One HTTP/2 connection, for one task, that receives no more than it is asked for.

    Attributes:
        stalled: Streams that have a window's worth of bytes and no more: as a browser does for a
            page that does not read. The connection's own window does not end.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.stalled: set[int] = set()
        self.answers: dict[int, Answer] = {}
        self.going_away = False
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))

    async def begin(self) -> None:
        """Say hello, by prior knowledge."""
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(2**30)
        await self._flush()

    async def upgrade(self, target: str) -> int:
        """Ask for a page in HTTP/1.1 and for HTTP/2 at once; return the stream of the answer."""
        settings = self._h2.initiate_upgrade_connection() or b""
        await self.transport.send_all(
            b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: %b\r\n\r\n" % (target.encode(), settings)
        )
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self.transport.receive_some()
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        self.answers[1] = Answer()
        await self._flush()
        if rest:
            await self._take(rest)
        return 1

    async def request(self, target: str, **headers: str) -> int:
        """Send a GET; return its stream."""
        stream = self._h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        pseudo = {":method": "GET", ":path": target, ":scheme": "https", ":authority": "127.0.0.1"}
        self._h2.send_headers(stream, list((pseudo | headers).items()), end_stream=True)
        await self._flush()
        return stream

    async def watch(self, query: str = "", **headers: str) -> int:
        """Open an event stream and read its beginning; return its stream."""
        stream = await self.request(EVENTS + query, **headers)
        assert await self.status(stream) == 200
        assert await self.frame(stream) == PREAMBLE
        return stream

    async def reset(self, stream: int) -> None:
        """Leave a stream, and keep the connection."""
        self._h2.reset_stream(stream)
        await self._flush()

    async def status(self, stream: int) -> int:
        """Return a response's status."""
        answer = self.answers[stream]
        while ":status" not in answer.headers:
            await self.receive()
        return int(answer.headers[":status"])

    async def frame(self, stream: int) -> bytes:
        """Return one frame of an event stream; nothing at its proper end."""
        answer = self.answers[stream]
        while (end := answer.body.find(b"\n\n")) < 0:
            if answer.ended:
                assert answer.body == b""
                return b""
            await self.receive()
        frame = bytes(answer.body[: end + 2])
        del answer.body[: end + 2]
        return frame

    async def body(self, stream: int) -> bytes:
        """Return a body, read to its end."""
        answer = self.answers[stream]
        while not answer.ended:
            await self.receive()
        return bytes(answer.body)

    async def receive(self) -> None:
        """Take in what has come, once something has."""
        await self._take(await self.transport.receive_some(65_536))

    async def _take(self, data: bytes | bytearray) -> None:
        if not data:
            raise EOFError("the connection was closed in the middle of a response")
        for event in self._h2.receive_data(bytes(data)):
            match event:
                case ResponseReceived():
                    self.answers[event.stream_id].headers.update(
                        cast("list[tuple[str, str]]", event.headers)  # as header_encoding says
                    )
                case DataReceived():
                    self.answers[event.stream_id].body += event.data
                    self.answers[event.stream_id].received += len(event.data)
                    if event.stream_id not in self.stalled and event.flow_controlled_length:
                        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case StreamEnded():
                    self.answers[event.stream_id].ended = True
                case StreamReset():
                    self.answers[event.stream_id].reset = True
                    raise EOFError(f"stream {event.stream_id} was reset")
                case ConnectionTerminated():
                    self.going_away = True
                case _:
                    pass
        await self._flush()

    async def _flush(self) -> None:
        if data := self._h2.data_to_send():
            await self.transport.send_all(data)


@dataclass
class Certificates:
    """An authority that nobody knows but our clients, and what it issued to our servers."""

    authority: trustme.CA
    certificate: Path
    key: Path

    @classmethod
    def issue(cls, folder: Path) -> "Certificates":
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "viz.example")
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        issued.private_key_pem.write_to_path(str(key))
        for part in issued.cert_chain_pems:
            part.write_to_path(str(certificate), append=True)
        return cls(authority, certificate, key)

    def protect(self, config: Config) -> Config:
        """Have a server of Hypercorn's speak TLS."""
        config.certfile, config.keyfile = str(self.certificate), str(self.key)
        return config

    def trusting(self, *protocols: str) -> ssl.SSLContext:
        """Return a client's context that offers some protocols, the best one first."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType] - PyOpenSSL's
        context.set_alpn_protocols(protocols)
        return context


@asynccontextmanager
async def dial(
    url: str, context: ssl.SSLContext | None = None, *, receive_buffer: int | None = None
) -> AsyncGenerator[Transport]:
    """Connect to a server, through TLS where there is a context for it."""
    async with connect(url, receive_buffer=receive_buffer) as plain:
        if context is None:
            yield plain.stream
            return
        secure = trio.SSLStream(plain.stream, context, server_hostname="127.0.0.1", https_compatible=True)
        await secure.do_handshake()
        yield secure


@asynccontextmanager
async def dial_http2(
    url: str, context: ssl.SSLContext | None = None, *, receive_buffer: int | None = None
) -> AsyncGenerator[Http2Connection]:
    """Open an HTTP/2 connection."""
    async with dial(url, context, receive_buffer=receive_buffer) as transport:
        if isinstance(transport, trio.SSLStream):
            assert transport.selected_alpn_protocol() == "h2"
        connection = Http2Connection(transport)
        await connection.begin()
        yield connection


@asynccontextmanager
async def dial_http1(
    url: str, context: ssl.SSLContext | None = None, *, receive_buffer: int | None = None
) -> AsyncGenerator[Connection]:
    """Open an HTTP/1.1 connection."""
    async with dial(url, context, receive_buffer=receive_buffer) as transport:
        yield Connection(cast("trio.SocketStream", transport))  # it sends and receives as one does


GRACE = 3.0
"""What the servers that `served` starts give their clients at shutdown, in seconds: also on a machine that is busy."""


class Server:
    """A server that was started.

    Attributes:
        url: Where it is.
    """

    def __init__(self, url: str, begin_shutdown: trio.Event, ended: trio.Event) -> None:
        self.url = url
        self._begin_shutdown = begin_shutdown
        self._ended = ended

    async def shut_down(self) -> None:
        """End it, whatever its clients do: within the grace, and some seconds for a machine that is busy."""
        self._begin_shutdown.set()
        with trio.fail_after(GRACE + 10):
            await self._ended.wait()


@asynccontextmanager
async def served(
    app: QuartTrio,
    pipe: Pipe,
    config: Config | None = None,
    *,
    client_timeout: float = 30,
    seconds: float = 40,
) -> AsyncGenerator[Server]:
    """Serve an app as users are told to, while in the block.

    The block has to be done within ``seconds``, and nobody must log an error.
    """
    config = Config() if config is None else config
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = GRACE
    config.errorlog = logging.getLogger("hypercorn")
    begin_shutdown, ended = trio.Event(), trio.Event()

    async def run(*, task_status: trio.TaskStatus[list[str]]) -> None:  # noqa: ASYNC128 - serve() does
        await serve(
            app,
            config,
            pipe,
            client_timeout=client_timeout,
            shutdown_trigger=begin_shutdown.wait,
            task_status=task_status,
        )
        ended.set()

    with error_log(), trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(run)
            server = Server(url, begin_shutdown, ended)
            yield server
            await server.shut_down()
