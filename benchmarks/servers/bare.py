"""The bare limit: a loop of ``socket.send``, with no server round it.

Batches of so many events, encoded beforehand, to every socket in turn. It blocks when a
socket is full, so that nothing is lost. Argument: events in a batch.
"""

import json
import socket
import sys
import time
from itertools import cycle
from statistics import mean
from urllib.parse import parse_qs, urlsplit

from benchmarks.events import make_batches

from . import BACKLOG, EVENTS, Emission, announce

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def main() -> None:
    batch_size = int(sys.argv[1])
    batches = make_batches(batch_size)
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
        connection.sendall(HEAD + json.dumps(emission.counts(batch_bytes=mean(map(len, batches)))).encode())
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
