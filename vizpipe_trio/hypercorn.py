"""Hypercorn and event streams: streams that end, whatever their clients do::

    from vizpipe_trio.hypercorn import StreamGuard

    app = QuartTrio(__name__)
    app.asgi_app = StreamGuard(app.asgi_app, pipe)

That is all, whether the app is served by Hypercorn's own command, with or without a
configuration file and however many workers, or from Python by ``hypercorn.trio.serve``.
`serve` does the same and listens for SIGINT and SIGTERM as well::

    trio.run(serve, app, config, pipe)

Why it is needed: Hypercorn's Trio worker sends inside a shielded cancel scope, so no time-out
ends a send to a client that has stopped reading, and one such client keeps the server from
ever shutting down. Hooks that run at the end of the server run after all connections are gone.
Quart-Trio cancels the last send of each response. And with several workers Hypercorn's master
terminates the others as soon as the first is done. ``docs/upstream.md`` shows each of them.

Needs the extra ``quart``: ``pip install 'vizpipe-trio[quart]'``.
"""

import math
import multiprocessing
import signal
import socket
import threading
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

try:
    import hypercorn.trio
    from hypercorn.config import Config
except ImportError as _missing:
    raise ImportError(
        "vizpipe_trio.hypercorn needs Hypercorn: pip install 'vizpipe-trio[quart]'"
    ) from _missing

from ._life import Life
from ._pipe import Pipe
from ._stream import LAST_WORDS_SECONDS

__all__ = ["StreamGuard", "serve"]

CLIENT_TIMEOUT = 30.0
"""Seconds. Not much less: the kernel also resets clients that read, but very slowly. As a rule, a
client has to read its receive buffer, commonly 128 KiB, once in that time."""

LONGEST_CLIENT_TIMEOUT = 86_400
"""Seconds: a day. The kernel's own limits are not much longer."""

GRACEFUL_TIMEOUT = 3.0
"""Seconds: Hypercorn's own default."""


class StreamGuard:
    """ASGI middleware that lets no client of an event stream hurt the server.

    - A client that takes nothing, or that has vanished without a word, is given up after
      ``client_timeout``. Meanwhile it costs its queue, and what the kernel buffers.
    - When the server begins to shut down (it closes its listening sockets), the pipe is
      stopped, so every stream that keeps up ends properly and at once. What is still connected
      when the grace is over is reset.
    - When the server is cancelled no client holds that up: the connections are ended at once. What
      was sent by then still arrives.
    - Each response's end goes out whole, so that connections are closed or used again at once.
    - With several workers, each gets to its own end.

    On systems other than Linux the kernel cannot give up a client that takes nothing, and a
    warning says so at start-up. Nor can it over Unix sockets, whose peer is a proxy on this machine,
    with time-outs of its own; all else holds there too.

    Args:
        app: An ASGI app that knows about lifespan.
        pipe: The pipe whose streams the app serves. The app runs it.
        client_timeout: Seconds, from 1 to 86,400. Shorter than 30 also hurts clients that are
            slow and alive.
        graceful_timeout: What Hypercorn's setting of this name is, in seconds.

    Raises:
        ValueError: A time-out is out of its range.
    """

    def __init__(
        self,
        app: Any,
        pipe: Pipe,
        *,
        client_timeout: float = CLIENT_TIMEOUT,
        graceful_timeout: float = GRACEFUL_TIMEOUT,
    ) -> None:
        if not 1 <= client_timeout <= LONGEST_CLIENT_TIMEOUT:
            raise ValueError(f"client_timeout must be 1 to 86400 seconds, not {client_timeout}")
        if not graceful_timeout >= 0:
            raise ValueError(f"graceful_timeout must be 0 or more seconds, not {graceful_timeout}")
        self._app = app
        self._new_life = partial(Life, pipe, client_timeout, graceful_timeout)
        self._life = self._new_life()

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """Serve one request, or the app's whole life."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http":
            if "server" in scope:  # test clients have none
                self._life.note_server(scope["server"])
            request = _Request(receive, send)
            await self._app(scope, request.receive, request.send)
        else:
            await self._app(scope, receive, send)

    def begin_shutdown(self) -> None:
        """Stop the pipe, and reset after the grace what is left. Idempotent, no checkpoint.

        For who shuts down the server by a trigger of his own and wants no delay: the guard
        notices by itself within a tenth of a second.
        """
        self._life.begin_shutdown()

    async def _live(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            warnings.warn(
                "this system cannot give up a client that has stopped reading (it has no TCP_USER_TIMEOUT): "
                "put a proxy with a send time-out in front",
                RuntimeWarning,
                stacklevel=2,
            )
        life = self._life = self._new_life()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(life.watch)
                if _is_one_of_several():
                    nursery.start_soon(life.outlive_termination)
                await self._app(scope, receive, send)
                nursery.cancel_scope.cancel()
        finally:
            # If the server is being cancelled, whatever the app has raised. An app that fails alone ends
            # no server: Hypercorn goes on.
            if trio.current_effective_deadline() == -math.inf:
                life.end_connections()


def _is_one_of_several() -> bool:
    is_worker = multiprocessing.parent_process() is not None
    return is_worker and threading.current_thread() is threading.main_thread()


class _Request:
    """One request's way to the server and back, whose end is sent whole.

    Quart-Trio cancels the last send of each response: Hypercorn says that the client has gone
    as soon as the response is out, and is still busy ending it. Connections would linger, and
    every shutdown take the whole grace. So from that word on, and only then, the send is shielded,
    for as long as a server needs that has nothing to wait for.
    """

    __slots__ = ("_is_over", "_last", "_receive", "_send")

    def __init__(self, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        self._receive = receive
        self._send = send
        self._last: trio.CancelScope | None = None
        self._is_over = False

    async def receive(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._is_over = True
            if self._last is not None:
                self._bound(self._last)
        return message

    def send(self, message: Any) -> Awaitable[None]:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            return self._send_last(message)
        return self._send(message)  # and not await: one object less for each write

    async def _send_last(self, message: Any) -> None:
        with trio.CancelScope() as self._last:
            if self._is_over:
                self._bound(self._last)
            await self._send(message)

    def _bound(self, scope: trio.CancelScope) -> None:
        scope.deadline = trio.current_time() + LAST_WORDS_SECONDS
        scope.shield = True


async def serve(  # noqa: ASYNC128 - Hypercorn says that it has started
    app: Any,
    config: Config,
    pipe: Pipe,
    *,
    client_timeout: float = CLIENT_TIMEOUT,
    shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an app until SIGINT or SIGTERM, and end in time whatever its viewers do.

    When shutdown begins the pipe is stopped, so every stream that keeps up ends properly and at
    once. Connections that are still there when ``config.graceful_timeout`` is over are reset.
    Then the app's own shutdown runs. All in all: the grace, and half a second. Cancelling it ends
    all connections at once, and leaves the pipe as cancelling `Pipe.run` does.

    Args:
        app: An ASGI app.
        config: Hypercorn's configuration. Unless its ``alpn_protocols`` says otherwise, TLS clients
            are offered HTTP/1.1 only, so that no browser chooses HTTP/2, over which
            `viz_blueprint` refuses its streams. It holds for the whole server. A plaintext
            port takes HTTP/2 in any case.
        pipe: The pipe whose streams the app serves. The app runs it.
        client_timeout: As for `StreamGuard`.
        shutdown_trigger: Shutdown begins when it returns. By default SIGINT and SIGTERM begin it.
        task_status: Told the addresses, once it listens.

    Raises:
        ValueError: ``client_timeout`` is out of its range.
    """
    guard = StreamGuard(app, pipe, client_timeout=client_timeout, graceful_timeout=config.graceful_timeout)
    if config.alpn_protocols is Config.alpn_protocols:  # nobody has chosen
        config.alpn_protocols = ["http/1.1"]

    async def shutdown_begins() -> None:
        await (shutdown_trigger or _a_signal)()
        guard.begin_shutdown()

    # Hypercorn's types have a bare dict in them.
    await hypercorn.trio.serve(guard, config, shutdown_trigger=shutdown_begins, task_status=task_status)  # pyright: ignore[reportUnknownMemberType]


async def _a_signal() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await anext(signals)
