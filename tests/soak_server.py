"""The server of the soak: real Hypercorn, and a pipe that is given more than it takes.

It prints its address, emits from the moment that it is asked for ``/begin`` until SIGTERM, and
then prints what it counted.
"""

import json
import math
import signal
import sys
import threading
import time
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from support import make_app, until

from vizpipe_trio import Event, Pipe, PipeStatistics, StageInfo
from vizpipe_trio.hypercorn import serve

CLIENT_TIMEOUT = 10.0
"""Seconds after which a viewer that takes nothing is given up: a few of them, at any moment."""

BURST = 60
"""Events that the host's task emits in one go, before its other tasks have their turn."""

FLOOD = 3000
"""Events that it emits in one go once in a while: more than the entrance takes."""

BURSTS_A_FLOOD = 500
THREADS = 2
STAGES = [StageInfo(number, name, ms=0.5) for number, name in enumerate(["policy", "cache", "merge"], 1)]


class Emitter:
    """Emits bursts, and counts on its own what it did."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.calls = 0
        self.accepted = 0

    def burst(self, count: int) -> None:
        for _ in range(count):
            self.calls += 1
            number = self.calls
            event = Event(
                request_id=f"request-{number}",
                source="soak",
                op="WRITE" if number % 7 == 0 else "QUERY",
                subject="what is it that was asked for",
                labels=("a", "b"),
                total_ms=math.nan if number % 1000 == 0 else 1.5,
                stages=STAGES,
            )
            self.accepted += self._pipe.emit(event)

    async def from_a_task(self) -> None:
        while True:
            self.burst(FLOOD)
            for _ in range(BURSTS_A_FLOOD):
                self.burst(BURST)
                await trio.lowlevel.checkpoint()

    def from_a_thread(self, ended: threading.Event) -> None:
        while not ended.wait(0.01):
            self.burst(BURST)


class Metric:
    """Counts drops; from several threads, so under a lock."""

    def __init__(self) -> None:
        self.dropped = 0
        self._lock = threading.Lock()

    def inc(self) -> None:
        with self._lock:
            self.dropped += 1


async def main() -> None:
    metric = Metric()
    pipe = Pipe(metric=metric)
    app = make_app(pipe, heartbeat_interval=1)
    emitters = [Emitter(pipe) for _ in range(1 + THREADS)]
    ended = threading.Event()
    counted: list[PipeStatistics] = []

    @app.get("/ping")
    async def ping() -> str:  # noqa: ASYNC124 - the framework's interface
        return "pong"

    begin = trio.Event()

    @app.get("/begin")
    async def begin_to_emit() -> str:  # noqa: ASYNC124 - the framework's interface
        begin.set()
        return "begun"

    async def until_told() -> None:
        """Emit until SIGTERM, and have everything handed out before the shutdown begins."""
        await begin.wait()
        threads = [threading.Thread(target=emitter.from_a_thread, args=[ended]) for emitter in emitters[1:]]
        for thread in threads:
            thread.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(emitters[0].from_a_task)
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                await anext(signals)
            nursery.cancel_scope.cancel()
        ended.set()
        for thread in threads:
            await trio.to_thread.run_sync(thread.join)
        await until(lambda: pipe.statistics().queued == 0)
        counted.append(pipe.statistics())

    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.keep_alive_timeout = 1  # also until a connection that never had a whole request is forgotten
    async with trio.open_nursery() as nursery:
        server = partial(serve, app, config, pipe, client_timeout=CLIENT_TIMEOUT, shutdown_trigger=until_told)
        [address] = await nursery.start(server)
        tell(address)
    final = pipe.statistics()
    tell(
        {
            "calls": sum(emitter.calls for emitter in emitters),
            "accepted": sum(emitter.accepted for emitter in emitters),
            "metric": metric.dropped,
            "cpu_seconds": time.process_time(),
            "statistics": {name: getattr(final, name) for name in final.__struct_fields__},
            "dropped_before_the_end": counted[0].dropped,
        }
    )


def tell(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main)
