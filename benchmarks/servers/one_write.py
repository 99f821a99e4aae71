"""Quart-Trio with one write per event: what its documents show, on Trio's own channels.

The stream is that of Quart's how-to "Server Sent Events": a generator that yields one
encoded event, with its response's timeout switched off. The fan-out is Trio's: a bounded
memory channel for each viewer, and what does not fit is dropped. As many events may wait
for a viewer as in our own pipe.
"""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import msgspec
import trio
from quart_trio import QuartTrio

from benchmarks.events import COUNT, make_templates, request_id

from . import Emission
from .on_trio import add_control, add_stream, serve

CAPACITY = 1024


def main() -> None:
    templates = make_templates()
    app = QuartTrio(__name__)
    viewers: set[trio.MemorySendChannel[dict[str, Any]]] = set()
    dropped = 0

    async def stream() -> AsyncGenerator[bytes]:
        send, receive = trio.open_memory_channel[dict[str, Any]](CAPACITY)
        viewers.add(send)
        try:
            yield b": welcome\n\n"  # Hypercorn holds the head back until there is a body
            async for event in receive:
                yield b"data: %b\n\n" % msgspec.json.encode(event)
        finally:
            viewers.discard(send)

    def emit(number: int) -> None:
        nonlocal dropped
        event = {"ts": datetime.now(UTC), "request_id": request_id(number), **templates[number % COUNT]}
        for viewer in viewers:
            try:
                viewer.send_nowait(event)
            except trio.WouldBlock:
                dropped += 1

    add_stream(app, stream)
    add_control(app, Emission(), emit, lambda: {"missed": dropped})
    serve(app)


if __name__ == "__main__":
    main()
