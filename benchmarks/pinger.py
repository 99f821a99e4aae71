"""The host's own requests: ``GET /ping`` at fixed times, whatever became of the one before.

A request's latency counts from the time it was due, not from when it could be sent, and one
that is never answered counts as long as was waited. So a server that stops for a second
shows as a second of slow requests and not as one. Requests that meet go out on connections of
their own; there are enough, opened beforehand, since a new one would wait to be accepted
behind all viewers that come just then.

A line of JSON, ``{"interval": I}``, begins; the next line, ``{}``, ends, and is answered with
``[[when it was due, latency], ...]``, both in nanoseconds of CLOCK_MONOTONIC.
"""

import json
import select
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from os import SCHED_RR, sched_param, sched_setscheduler

_REQUEST = b"GET /ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_WARM = 64
_PATIENCE_NS = 10_000_000_000


class Pinger:
    """A pool of connections that grows when it has to."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._idle: deque[int] = deque()
        self._due: dict[int, int] = {}
        self._received: dict[int, bytes] = {}
        self._answers: list[tuple[int, int]] = []
        self._ended = False
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)

    def run(self, interval: float) -> list[tuple[int, int]]:
        """Make requests until there is a line on standard input, and wait for the last."""
        while len(self._idle) < _WARM:
            self._connect(time.monotonic_ns())
            while self._due:
                self._wait(time.monotonic_ns() + _PATIENCE_NS)
        self._answers = []
        self._ended = False
        began = time.monotonic_ns()
        number = 0
        while not self._ended:
            due = began + int(number * interval * 1e9)
            if time.monotonic_ns() < due:
                self._wait(due)
            else:
                self._request(due)
                number += 1
        end = time.monotonic_ns() + _PATIENCE_NS
        while self._due and time.monotonic_ns() < end:
            self._wait(end)
        for fd, due in list(self._due.items()):
            self._answers.append((due, time.monotonic_ns() - due))
            self._close(fd)
        return sorted(self._answers)

    def _request(self, due: int) -> None:
        while self._idle:
            # In turn: the server forgets a connection that rests for some seconds.
            fd = self._idle.popleft()
            try:
                self._sockets[fd].send(_REQUEST)
            except OSError:
                self._close(fd)
            else:
                self._due[fd] = due
                self._received[fd] = b""
                return
        self._connect(due)

    def _connect(self, due: int) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(self._address)
        self._sockets[sock.fileno()] = sock
        self._due[sock.fileno()] = due
        self._received[sock.fileno()] = b""
        self._poll.register(sock.fileno(), select.EPOLLOUT)

    def _wait(self, until: int) -> None:
        for fd, happened in self._poll.poll(max(until - time.monotonic_ns(), 0) / 1e9):
            if fd == sys.stdin.fileno():
                sys.stdin.readline()
                self._ended = True
            elif happened & select.EPOLLOUT:
                self._poll.modify(fd, select.EPOLLIN)
                self._sockets[fd].send(_REQUEST)
            else:
                self._receive(fd)

    def _receive(self, fd: int) -> None:
        data = b""
        with suppress(ConnectionError):
            data = self._sockets[fd].recv(65536)
        self._received[fd] += data
        if fd in self._due and self._received[fd].endswith(b"pong"):
            due = self._due.pop(fd)
            self._answers.append((due, time.monotonic_ns() - due))
            if b"connection: close" in self._received[fd].lower():
                self._close(fd)
            else:
                self._idle.append(fd)
        elif not data:
            still_due = self._due.get(fd)
            self._close(fd)
            if still_due is not None:
                self._request(still_due)  # the server ended the connection as this was on its way

    def _close(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._sockets.pop(fd).close()
        self._due.pop(fd, None)
        del self._received[fd]
        with suppress(ValueError):
            self._idle.remove(fd)


def main() -> None:
    # It shares a core with the load client, and must not wait for that to rest.
    with suppress(PermissionError):
        sched_setscheduler(0, SCHED_RR, sched_param(1))
    pinger = Pinger(int(sys.argv[1]))
    while line := sys.stdin.readline():
        print(json.dumps(pinger.run(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
