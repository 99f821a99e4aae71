"""A worker of the relay's measurements: a pipe, its relay and, when told so, a viewer.

Lines of JSON: ``{"do": "emit", "rate": R, "seconds": S}`` begins to emit, ``{"do": "watch"}``
opens the viewer and ``{"do": "unwatch"}`` closes it, ``{"do": "note", "ages": true}`` has it note from now on how old each event is, and
``{"do": "snapshot"}`` is answered with what was counted so far, the ages and costs since the last "note".
"""

import json
import re
import sys
import time
from typing import Any

import msgspec
import trio

from vizpipe_trio import Event, Pipe, StageInfo
from vizpipe_trio.redis import RedisRelay

from .events import MARK, make_templates, request_id
from .pace import TICK, Pace
from .quantiles import quantiles

EMITTED = re.compile(rb'"request_id":"[0-9]+-([0-9]+)~')


class Worker:
    """What it has, and what it has counted."""

    def __init__(self, url: str) -> None:
        self.pipe = Pipe(capacity=5000, client_capacity=100_000)
        self.relay = RedisRelay(self.pipe, url)
        self.emitting = self.notes_ages = False
        self.events = 0
        self.viewer = trio.CancelScope()
        self.ages_ns: list[int] = []
        self.emit_ns: list[float] = []
        self._templates = [
            {**template, "stages": [StageInfo(**stage) for stage in template["stages"]]}
            for template in make_templates()
        ]

    async def emit(self, rate: float, seconds: float) -> None:
        """Emit at a steady rate."""
        templates, pace, number = self._templates, Pace(rate, seconds), 0
        while (due := pace.due()) is not None:
            events = [
                Event(request_id=request_id(number + index), **templates[(number + index) % len(templates)])
                for index in range(due)
            ]
            number += due
            began = time.perf_counter_ns()
            for event in events:
                self.pipe.emit(event)
            if events:
                self.emit_ns.append((time.perf_counter_ns() - began) / due)
            await trio.sleep(TICK)
        self.emitting = False

    async def watch(self) -> None:
        """View what is broadcast here."""
        with self.pipe.subscribe() as subscription, trio.CancelScope() as self.viewer:
            while True:
                data = await subscription.receive_bytes()
                self.events += data.count(MARK.encode())
                if self.notes_ages:
                    now = time.monotonic_ns()
                    self.ages_ns += [now - int(emitted) for emitted in EMITTED.findall(data)]

    def snapshot(self) -> dict[str, Any]:
        """Return what was counted."""
        return {
            "at": time.monotonic(),
            "cpu": time.process_time(),
            "emitting": self.emitting,
            "events": self.events,
            "ages": quantiles([age / 1e9 for age in self.ages_ns]),
            "emit": quantiles(self.emit_ns),
            "dropped": self.pipe.statistics().dropped,
            "relay": msgspec.to_builtins(self.relay.statistics()),
        }

    async def run(self) -> None:
        """Obey until standard input ends."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.relay.run)
            await nursery.start(self.pipe.run)
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                command = json.loads(line)
                match command.pop("do"):
                    case "emit":
                        self.emitting = True
                        nursery.start_soon(lambda given: self.emit(**given), command)
                        answer: Any = None
                    case "watch":
                        nursery.start_soon(self.watch)
                        answer = None
                    case "unwatch":
                        self.viewer.cancel()
                        answer = None
                    case "note":
                        self.notes_ages = command["ages"]
                        self.ages_ns, self.emit_ns = [], []
                        answer = None
                    case _:
                        answer = self.snapshot()
                print(json.dumps(answer), flush=True)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(Worker(sys.argv[1]).run)
