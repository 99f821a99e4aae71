"""The load client: many viewers in one process, and it must never be the bottleneck.

It knows HTTP and event streams only as far as it needs to count events, and nothing of the
library. It takes commands as lines of JSON, and answers each with one:

- ``{"do": "connect", "count": N, "together": bool}``: open N more viewers, all together or
  some at a time; answers when each has got the head of its response.
- ``{"do": "fetch", "count": N}``: N plain requests for ``/ping``, each on a new connection, all
  together; answers when each has got its response.
- ``{"do": "read", "how": "count" | "audit" | "ages" | "discard"}``: what to do with a stream's
  bytes, see `Load`.
- ``{"do": "snapshot"}``: all that was counted so far, and the ages since the last snapshot.
"""

import json
import re
import select
import socket
import sys
import time
from array import array
from typing import Any

from .quantiles import quantiles

MARK = b"~" * 16  # as in events.py
GAP_MARK = b"v"  # as in events.py
_OVERLAP = len(MARK) - 1
_WINDOW = 29_000
"""Bytes that are searched in one go: in more than 30,000, CPython takes an algorithm that is
slower for what is looked for here."""
_AGE = re.compile(rb'"request_id": ?"[0-9]{9}-([0-9]{17})~')
_TAIL = 60
"""Bytes that are kept for the next receive: more than any of these patterns is long."""
_TOLD = re.compile(rb'event: missed\r?\ndata: ?{"missed":([0-9]+),')
_WRITE_END = b"\n\n\r\n"  # a frame's end, and then that of an HTTP chunk
_MOST = 1 << 18
_AT_A_TIME = 50


class Connection:
    """One connection: a viewer's, or a plain request's."""

    __slots__ = ("events", "ready", "sock", "tail")

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.connect_ex(address)
        self.tail = b""
        self.ready = False
        self.events = 0


class Load:
    """All connections, what they have received, and the loop that serves them.

    A stream's bytes are read in one of four ways. All viewers are read the same way.

    - count: count the events, every one, by their mark.
    - audit: also read what the server says was missed.
    - ages: read when each event was emitted, and what was missed.
    - discard: count bytes only, and let the kernel drop them (tcp(7), ``MSG_TRUNC``). For the
      bare limit: no client in Python could look at that much, and what is sent is known.
    """

    def __init__(self, port: int, path: str) -> None:
        self._address = ("127.0.0.1", port)
        self._path = path
        self._poll = select.epoll()
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._first: Connection | None = None
        self._buffer = bytearray(_MOST)
        self._how = "count"
        self._ages = array("q")
        self._to_open = self._opening = self._at_a_time = self._began = 0
        self._plain = False
        self._bytes = self._told = self._first_writes = self._closed = 0

    def run(self) -> None:
        """Serve until standard input ends."""
        while True:
            for fd, happened in self._poll.poll():
                connection = self._connections.get(fd)
                if connection is None:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    self._obey(json.loads(line))
                elif happened & select.EPOLLOUT:
                    self._request(fd, connection)
                elif connection.ready:
                    self._receive(fd, connection)
                else:
                    self._receive_head(fd, connection)

    def _obey(self, command: dict[str, Any]) -> None:
        match command["do"]:
            case "connect":
                self._open(command["count"], plain=False, together=command["together"])
            case "fetch":
                self._open(command["count"], plain=True, together=True)
            case "read":
                self._how = command["how"]
                _reply()
            case "snapshot":
                self._snapshot()
            case other:
                raise ValueError(other)

    def _open(self, count: int, *, plain: bool, together: bool) -> None:
        self._plain = plain
        self._to_open = count
        self._at_a_time = count if together else _AT_A_TIME
        self._began = time.monotonic_ns()
        self._open_more()

    def _open_more(self) -> None:
        while self._to_open and self._opening < self._at_a_time:
            self._to_open -= 1
            self._opening += 1
            connection = Connection(self._address)
            self._connections[connection.sock.fileno()] = connection
            self._poll.register(connection.sock.fileno(), select.EPOLLOUT)
            if self._first is None and not self._plain:
                self._first = connection
        if not self._opening:
            _reply(began=self._began, ended=time.monotonic_ns())

    def _request(self, fd: int, connection: Connection) -> None:
        path = "/ping" if self._plain else self._path
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
        connection.sock.send(head.encode())
        self._poll.modify(fd, select.EPOLLIN)

    def _receive_head(self, fd: int, connection: Connection) -> None:
        received = connection.sock.recv(_MOST)
        connection.tail += received
        head, end, body = connection.tail.partition(b"\r\n\r\n")
        if received and not (end and (body or not self._plain)):
            return
        if b" 200 " not in head[:16]:
            raise RuntimeError(f"a connection was refused: {connection.tail[:200]!r}")
        connection.ready = True
        connection.tail = body[-_TAIL:]
        if self._plain:
            self._close(fd, connection)
        self._opening -= 1
        self._open_more()

    def _close(self, fd: int, connection: Connection) -> None:
        self._poll.unregister(fd)
        connection.sock.close()
        del self._connections[fd]

    def _receive(self, fd: int, connection: Connection) -> None:
        discard = self._how == "discard"
        size = connection.sock.recv_into(self._buffer, _MOST, socket.MSG_TRUNC if discard else 0)
        self._bytes += size
        if not size:
            self._closed += 1
            self._close(fd, connection)
        elif self._how == "ages":
            self._read_ages(connection, size)
        elif not discard:
            self._count(connection, size)

    def _count(self, connection: Connection, size: int) -> None:
        buffer = self._buffer
        # What lies across two receives is in their seam, and across two windows in both.
        # Nothing is counted twice, since each of these is shorter than two marks.
        seam, old = connection.tail + buffer[: min(_TAIL, size)], len(connection.tail)
        connection.events += seam.count(MARK, max(old - _OVERLAP, 0), old + _OVERLAP)
        connection.events += self._marks(size)
        if connection is self._first:
            self._first_writes += buffer.count(_WRITE_END, 0, size)
        if self._how == "audit" and (GAP_MARK in seam or buffer.find(GAP_MARK, 0, size) >= 0):
            self._read_told(seam, old, size)
        connection.tail = bytes(buffer[size - _TAIL : size]) if size >= _TAIL else seam[-_TAIL:]

    def _marks(self, size: int) -> int:
        """Return how many marks are in what was received."""
        count = self._buffer.count
        return sum(
            count(MARK, start, min(start + _WINDOW + _OVERLAP, size)) for start in range(0, size, _WINDOW)
        )

    def _read_told(self, seam: bytes, old: int, size: int) -> None:
        """Read what was missed: what begins before this receive, and what is whole in it."""
        for match in _TOLD.finditer(seam):
            if match.start() < old < match.end():
                self._told += int(match[1])
        place = self._buffer.find(GAP_MARK, 0, size)
        while place >= 0:
            # The mark is the second letter.
            told = _TOLD.match(self._buffer, place - 1, size) if place else None
            if told:
                self._told += int(told[1])
            place = self._buffer.find(GAP_MARK, place + 1, size)

    def _read_ages(self, connection: Connection, size: int) -> None:
        now = time.monotonic_ns()
        old = len(connection.tail)
        data = connection.tail + self._buffer[:size]
        for match in _AGE.finditer(data):
            if match.end() > old:
                self._ages.append(now - int(match[1]))
                connection.events += 1
        self._read_told(data[: old + _TAIL], old, size)
        connection.tail = data[-_TAIL:]

    def _snapshot(self) -> None:
        first = self._first
        _reply(
            at=time.monotonic(),
            cpu=time.process_time(),
            viewers=len(self._connections),
            closed=self._closed,
            events=sum(connection.events for connection in self._connections.values()),
            bytes=self._bytes,
            missed_told=self._told,
            first_events=first.events if first else 0,
            first_writes=self._first_writes,
            ages=quantiles([age / 1e9 for age in self._ages]),
        )
        self._ages = array("q")


def _reply(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    Load(int(sys.argv[1]), sys.argv[2]).run()
