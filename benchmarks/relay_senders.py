"""So many workers as a Valkey server sees them, without the workers: they only write their messages.

``python -m benchmarks.relay_senders URL WORKERS RATE SECONDS``: in every interval of the relay each of them
writes a message, one after the other and evenly, with its part of so many events a second in all; or, with
too few events for that, as many of them as there are events.
"""

import sys
import time
from itertools import cycle

import trio
from coredis import Redis

from vizpipe_trio import Event, StageInfo
from vizpipe_trio._envelope import Envelope
from vizpipe_trio._sse import encode_event

from .events import make_templates, request_id

INTERVAL = 1 / 30
TICK = 0.005


async def send(url: str, workers: int, rate: float, seconds: float) -> None:
    """Write for so many seconds."""
    templates = [
        {**template, "stages": [StageInfo(**stage) for stage in template["stages"]]}
        for template in make_templates()
    ]
    encoded = cycle([encode_event(Event(request_id=request_id(0), **each)) for each in templates])
    next_number = [1] * workers
    turn = cycle(range(workers))
    messages_a_second = min(workers / INTERVAL, rate)
    began, sent, events = time.monotonic(), 0, 0.0
    async with Redis.from_url(url) as client:
        while (elapsed := time.monotonic() - began) < seconds:
            due = int(elapsed * messages_a_second)
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(sent, due):
                    worker = next(turn)
                    count = int((number + 1) * rate / messages_a_second) - int(events)
                    events += count
                    data = [next(encoded) for _ in range(count)]
                    envelope = Envelope(b"%08x" % worker, next_number[worker], 0, count, data=data)
                    next_number[worker] += count
                    pipeline.xadd("vizpipe", envelope.encode())
            sent = max(sent, due)
            await trio.sleep(TICK)


if __name__ == "__main__":
    trio.run(send, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
