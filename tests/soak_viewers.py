"""The viewers of the soak: those that stay and account for all that they read, and those that come and go."""

import json
import random
import re
import socket
import struct
from collections.abc import Awaitable, Callable

import trio
from support import EVENTS, Connection, connect, last_id, watch

_FRAME = re.compile(
    rb"id: [0-9a-f]+-(\d+)\ndata: .*\n\n|event: missed\ndata: (.*)\n\n|(?:retry: \d+\n)?: .*\n\n"
)


class Account:
    """What one viewer has read: events in order, and the gaps that it was told of."""

    def __init__(self, place: int | None = 0) -> None:
        self.events = 0
        self.missed = {"slow": 0, "overload": 0, "history": 0}
        self.rest = b""
        # The number of the last event that it has seen or knows to be lost; None: unknown.
        self._place = place

    def read(self, data: bytes) -> None:
        """Account for some bytes of a stream."""
        data = self.rest + data
        end = 0
        for frame in _FRAME.finditer(data):
            assert frame.start() == end, data[end : end + 200]
            end = frame.end()
            if frame[1]:
                self._see(int(frame[1]))
            elif frame[2]:
                self._miss(**json.loads(frame[2]))
        self.rest = data[end:]

    def _see(self, number: int) -> None:
        self.events += 1
        assert self._place is None or number == self._place + 1, (number, self._place)
        self._place = number

    def _miss(self, missed: int | None, reason: str) -> None:
        if missed is None:
            self._place = None
            return
        self.missed[reason] += missed
        if reason != "overload" and self._place is not None:  # those never had a number
            self._place += missed


async def stay(url: str, account: Account, pause: float) -> None:
    """Read a stream from its beginning to its proper end."""
    async with watch(url, receive_buffer=65_536 if pause else None) as viewer:
        while chunk := await viewer.chunk():
            account.read(chunk)
            if pause:
                await trio.sleep(pause)
        assert account.rest == b""


def reset(viewer: Connection) -> None:
    """Have the connection end without a word."""
    viewer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def leave_mid_header(url: str) -> None:
    async with connect(url) as viewer:
        await viewer.stream.send_all(b"GET /api/viz/events HTTP/1.1\r\nHo")


async def leave_after_the_request(url: str) -> None:
    async with connect(url) as viewer:
        await viewer.request(EVENTS)


async def leave_after_a_while(url: str) -> None:
    async with watch(url) as viewer:
        for _ in range(random.randrange(40)):
            await viewer.chunk()
        if random.random() < 0.5:
            reset(viewer)


async def leave_mid_event(url: str) -> None:
    async with watch(url, "?op=WRITE") as viewer:
        await viewer.stream.receive_some(random.randrange(1, 200))


async def get_stuck(url: str) -> None:
    async with connect(url, receive_buffer=4096) as viewer:
        await viewer.request(EVENTS)
        await trio.sleep(random.uniform(0, 15))


async def come_back(url: str) -> None:
    async with watch(url) as viewer:
        seen = await last_id(viewer)
    async with watch(url, "", b"Last-Event-ID: " + seen) as viewer:
        account = Account(int(seen.rpartition(b"-")[2]))
        for _ in range(10):
            account.read(await viewer.frame())


VISITS: list[Callable[[str], Awaitable[None]]] = [
    leave_mid_header,
    leave_after_the_request,
    leave_after_a_while,
    leave_mid_event,
    get_stuck,
    come_back,
]
