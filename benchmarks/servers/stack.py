"""The stack below us with nothing of ours: Quart-Trio on Hypercorn, and prepared bytes to write.

No pipe, no queue, no event is made. What Quart-Trio, Hypercorn, h11, Trio and Python itself cost
is all that is left. Argument: events in a batch.

``/start?rate=R`` lets R times a second ten streams write one batch each, in turn: what a fan-out
that hurts its host as little as it can asks of the stack. ``/write`` besides makes every stream
write one batch after the other, without waiting for anything but the write: it is the most that
can be delivered.
"""

import sys
from collections.abc import AsyncGenerator
from itertools import cycle
from statistics import mean
from typing import Any

import trio
from quart_trio import QuartTrio

from benchmarks.events import make_batches

from . import Emission
from .on_trio import add_control, add_stream, serve

AT_A_TIME = 10


def main() -> None:
    batches = make_batches(int(sys.argv[1]))
    app = QuartTrio(__name__)
    emission = Emission()
    waiting = trio.lowlevel.ParkingLot()
    flat_out = False

    async def stream() -> AsyncGenerator[bytes]:
        yield b": welcome\n\n"
        for batch in cycle(batches):
            if not (flat_out and emission.running):
                await waiting.park()
            yield batch

    @app.get("/write")
    async def write() -> dict[str, Any]:  # noqa: ASYNC124 - the framework's interface
        nonlocal flat_out
        flat_out = True
        waiting.unpark_all()
        return {}

    def some_write(_: int) -> None:
        waiting.unpark(count=AT_A_TIME)

    add_stream(app, stream)
    add_control(app, emission, some_write, lambda: {"batch_bytes": mean(map(len, batches))})
    serve(app)


if __name__ == "__main__":
    main()
