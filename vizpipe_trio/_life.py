"""One life of an app on Hypercorn, from its start-up to its end, which comes whatever clients do.

Hypercorn gives an app neither its sockets nor, by its command, a word that it shuts down. So the ports
are learnt from requests, the sockets found at them (see ``_sockets.py``), and watched.
"""

import os
import signal

import trio

from . import _sockets
from ._pipe import Pipe

RESET_AFTER = 0.25
"""Seconds after the end of the grace at which what is left is reset: Hypercorn has its chance."""

POLL_SECONDS = 0.1
"""How often is looked whether shutdown has begun, of which Hypercorn's command tells no app."""


class Life:
    """What is known of the server in one life of the app, and what is done for its end.

    An app may be served again in the same process. Nothing of this is true any more then.

    Args:
        pipe: Stopped when shutdown begins.
        client_timeout: Seconds after which the kernel gives up who takes nothing.
        graceful_timeout: Seconds between the beginning of shutdown and the end of Hypercorn's patience.
    """

    def __init__(self, pipe: Pipe, client_timeout: float, graceful_timeout: float) -> None:
        self._pipe = pipe
        self._client_timeout = client_timeout
        self._graceful_timeout = graceful_timeout
        self._ports: set[int | None] = set()  # None: Unix sockets
        self._listeners: set[_sockets.Listener] = set()
        self._shutdown = False

    def note_server(self, server: tuple[str, int | None] | None) -> None:
        """Learn from a request where the server is. Unix sockets have no port."""
        port = None if server is None else server[1]
        if port not in self._ports:
            self._ports.add(port)
            self._limit(port)

    def begin_shutdown(self) -> None:
        """Stop the pipe, and have `watch` reset what is left after the grace. Idempotent, no checkpoint."""
        self._shutdown = True
        self._pipe.stop()

    async def watch(self) -> None:
        """Wait for the shutdown, and then see to it that it comes to an end."""
        limited: set[int | None] = set()
        while not self._shutdown:
            await trio.sleep(POLL_SECONDS)
            # Connections that were on their way when the limit was set have not inherited it.
            limited |= {port for port in self._ports - limited if not self._limit(port)}
            if self._listeners and not self._is_listening():
                self.begin_shutdown()
        await trio.sleep(self._graceful_timeout + RESET_AFTER)
        while True:
            for port in self._ports:
                _sockets.end(port, reset=True)
            await trio.sleep(RESET_AFTER)

    def end_connections(self) -> None:
        """End them all, now, so that no send holds up who is being cancelled. No checkpoint."""
        for port in self._ports:
            _sockets.end(port)

    async def outlive_termination(self) -> None:
        """Get to the end of the shutdown, though Hypercorn's master says SIGTERM.

        It says so when the first worker is done. From somebody else it means what it says.
        """
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                self.begin_shutdown()
                await trio.sleep(self._graceful_timeout)
                if self._is_listening() or not self._listeners:
                    break
        os.kill(os.getpid(), signal.SIGTERM)

    def _limit(self, port: int | None) -> bool:
        """Limit what is at a port; say whether there was anything new."""
        listeners, new = _sockets.limit(port, self._client_timeout)
        self._listeners.update(listeners)
        return new

    def _is_listening(self) -> bool:
        return any(listener.is_open for listener in self._listeners)
