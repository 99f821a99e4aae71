"""The bare limit: a loop of ``socket.send``, with no server round it.

Batches of so many events, encoded beforehand, to every socket in turn. It blocks when a
socket is full, so that nothing is lost. Argument: events in a batch.
"""

import json
import socket
import sys
import time
from itertools import cycle
from urllib.parse import parse_qs, urlsplit

import msgspec

from benchmarks.events import COUNT, make_templates, request_id

from . import BACKLOG, EVENTS, Emission, announce

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def main() -> None:
    batch_size = int(sys.argv[1])
    frames = [
        b"id: 7c1e9fa2-%d\ndata: %b\n\n"
        % (
            number,
            msgspec.json.encode(
                {"ts": "2026-01-01T00:00:00.000000Z", "request_id": request_id(number), **template}
            ),
        )
        for number, template in enumerate(make_templates())
    ]
    # As many different batches as there are events, so that no cache is flattered.
    batches = [
        b"".join(frames[(first + index) % COUNT] for index in range(batch_size))
        for first in range(0, COUNT, 8)
    ]
    viewers: list[socket.socket] = []
    emission = Emission()
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    announce(listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        target = urlsplit(connection.recv(65536).split(b" ")[1].decode())
        if target.path == EVENTS:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(HEAD)
            viewers.append(connection)
            continue
        connection.sendall(HEAD + json.dumps(emission.counts()).encode())
        connection.close()
        if target.path == "/start":
            send(viewers, batches, batch_size, float(parse_qs(target.query)["seconds"][0]), emission)


def send(
    viewers: list[socket.socket], batches: list[bytes], batch_size: int, seconds: float, emission: Emission
) -> None:
    """Send as fast as the sockets take it."""
    end = time.monotonic() + seconds
    for batch in cycle(batches):
        if time.monotonic() >= end:
            return
        for viewer in viewers:
            viewer.sendall(batch)
        emission.emitted += batch_size


if __name__ == "__main__":
    main()
