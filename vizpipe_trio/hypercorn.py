"""Run Hypercorn so that a viewer that stops reading neither stays for ever nor holds up the exit.

    config = StreamConfig()
    config.bind = ["127.0.0.1:8000"]
    trio.run(serve, app, config, pipe)

Hypercorn's Trio worker sends inside a shield, so no time-out in an app can end a send to a client that
has stopped reading, and no shutdown either. Only the kernel can: `StreamConfig` tells it to give up
such a connection, and `serve` resets what is left when the grace at shutdown is over.

With Hypercorn's own command, a configuration file in Python has the first of the two:

    from vizpipe_trio.hypercorn import guarded_bind

    bind = [guarded_bind("127.0.0.1:8000")]

Needs the extra ``quart``: ``pip install 'vizpipe-trio[quart]'``.
"""

import os
import signal
import socket
import struct
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio

try:
    import hypercorn.trio
    from hypercorn.config import Config, Sockets
except ImportError as _missing:
    raise ImportError(
        "vizpipe_trio.hypercorn needs Hypercorn: pip install 'vizpipe-trio[quart]'"
    ) from _missing

from ._pipe import Pipe

__all__ = ["PromptEnd", "StreamConfig", "guarded_bind", "serve"]

CLIENT_TIMEOUT = 30.0
"""Seconds. Not much less: the kernel also resets clients that read, but very slowly. As a rule, a
client has to read its receive buffer, commonly 128 KiB, once in that time."""

KEEP_ALIVE_PROBES = 3
"""Unanswered probes after which an idle connection is given up."""

RESET_AFTER = 0.25
"""Seconds after the end of the grace at which what is left is reset: Hypercorn has its chance."""

LAST_WORDS_SECONDS = 1.0
"""How long the end of a response may take to be sent. Over HTTP/2 it waits for the client."""

_RESET = struct.pack("ii", 1, 0)  # socket(7): linger for no time at all


class StreamConfig(Config):
    """Hypercorn's configuration, whose connections end when their client does.

    Attributes:
        client_timeout: Seconds after which a client is given up that takes nothing, or that
            has vanished without a word. Shorter than 30 also hurts clients that are slow and
            alive. On systems other than Linux the first of these cannot be had, and a
            warning says so at start-up.
        alpn_protocols: What is offered to TLS clients: HTTP/1.1 only, so that no browser
            chooses HTTP/2, over which `viz_blueprint` refuses its streams. It holds for the whole
            server. Hypercorn's own default is ``["h2", "http/1.1"]``; a plaintext port
            takes HTTP/2 whatever is said here.
    """

    client_timeout: float = CLIENT_TIMEOUT
    alpn_protocols = ["http/1.1"]  # noqa: RUF012 - Hypercorn's own way

    def create_sockets(self) -> Sockets:
        """Return the listening sockets, from which connections inherit their limits."""
        sockets = super().create_sockets()
        for listener in (*sockets.secure_sockets, *sockets.insecure_sockets):
            _guard(listener, self.client_timeout)
        return sockets


def guarded_bind(address: str, client_timeout: float = CLIENT_TIMEOUT) -> str:
    """Listen, as `StreamConfig` does, and return what goes into Hypercorn's ``bind``.

    For configuration files, which cannot say what class they are: see the module's text.

    Args:
        address: ``host:port``, an IPv6 host in brackets.
        client_timeout: As in `StreamConfig`.
    """
    config = StreamConfig()
    config.bind = [address]
    config.client_timeout = client_timeout
    return f"fd://{config.create_sockets().insecure_sockets[0].detach()}"


def _guard(listener: socket.socket, client_timeout: float) -> None:
    if listener.family not in {socket.AF_INET, socket.AF_INET6}:
        return  # a unix socket's peer cannot vanish
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = max(int(client_timeout / (KEEP_ALIVE_PROBES + 1)), 1)
    for name, value in (
        ("TCP_KEEPIDLE", seconds),
        ("TCP_KEEPINTVL", seconds),
        ("TCP_KEEPCNT", KEEP_ALIVE_PROBES),
        ("TCP_USER_TIMEOUT", int(client_timeout * 1000)),
    ):
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        warnings.warn(
            "this system cannot give up a client that has stopped reading (it has no TCP_USER_TIMEOUT); "
            "put a proxy with a send time-out in front",
            RuntimeWarning,
            stacklevel=3,
        )


async def serve(
    app: Any,
    config: Config,
    pipe: Pipe,
    *,
    shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an app until SIGINT or SIGTERM, and end in time whatever its viewers do.

    When shutdown begins the pipe is stopped, so every stream that keeps up ends properly and at
    once. Connections that are still there when ``config.graceful_timeout`` is over are reset.
    Then the app's own shutdown runs. All in all: the grace, and half a second.

    Args:
        app: An ASGI app.
        config: A `StreamConfig`, or any configuration of Hypercorn's.
        pipe: The pipe whose streams the app serves. The app runs it.
        shutdown_trigger: Shutdown begins when it returns. By default SIGINT and SIGTERM begin it.
        task_status: Told the addresses, once it listens.
    """
    async with trio.open_nursery() as helpers:
        async with trio.open_nursery() as nursery:
            addresses: list[str] = []

            async def shutdown_begins() -> None:
                await (shutdown_trigger or _a_signal)()
                pipe.stop()
                ports = {int(address.rpartition(":")[2]) for address in addresses if "://" in address}
                helpers.start_soon(_reset_after, config.graceful_timeout + RESET_AFTER, ports)

            # Hypercorn's types have a bare dict in them.
            server = partial(hypercorn.trio.serve, PromptEnd(app), config, shutdown_trigger=shutdown_begins)  # pyright: ignore[reportUnknownMemberType]
            addresses += await nursery.start(server)
            task_status.started(addresses)
        helpers.cancel_scope.cancel()


async def _a_signal() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await anext(signals)


class PromptEnd:
    """ASGI middleware that lets a response's end go out before its request is over.

    Quart-Trio cancels its own last send: Hypercorn says that the client has gone as soon as
    the response ends, and is still busy ending it. Without this, connections linger after
    each response, and every shutdown takes the whole grace.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """Serve one request, or one lifespan."""

        def send_on(message: Any) -> Awaitable[None]:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                return _send_last(send, message)
            return send(message)  # and not await: one object less for each write

        await self._app(scope, receive, send_on)


async def _send_last(send: Callable[[Any], Awaitable[None]], message: Any) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WORDS_SECONDS):
        await send(message)


async def _reset_after(seconds: float, ports: set[int]) -> None:
    """Reset the connections that are still there by then, and those that come to light later."""
    await trio.sleep(seconds)
    while True:
        for connection in _connections(ports):
            with suppress(OSError), connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.shutdown(socket.SHUT_RDWR)
        await trio.sleep(RESET_AFTER)


def _connections(ports: set[int]) -> Iterator[socket.socket]:
    """Yield this process's connections to local ports, duplicated.

    Hypercorn gives nobody a connection, so they are found among all open files. Without
    ``/dev/fd``, as on Windows, there is no telling.
    """
    with suppress(FileNotFoundError):
        for file in Path("/dev/fd").iterdir():
            with suppress(OSError):
                duplicate = os.dup(int(file.name))
                try:
                    connection = socket.socket(fileno=duplicate)
                except OSError:
                    os.close(duplicate)  # a file, or a pipe
                    continue
                if _is_connected(connection, ports):
                    yield connection
                else:
                    connection.close()


def _is_connected(connection: socket.socket, ports: set[int]) -> bool:
    if connection.family not in {socket.AF_INET, socket.AF_INET6} or connection.type != socket.SOCK_STREAM:
        return False
    try:
        connection.getpeername()
    except OSError:
        return False  # it listens
    return connection.getsockname()[1] in ports
