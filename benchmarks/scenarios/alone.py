"""One event alone: a quiet pipe, one viewer, from just before emit to the viewer's receive.

Ours and one write per event run side by side, on the same core, each with one viewer and its
own load client; their events take turns, 25 ms apart. So each has 50 ms from one to the next, in
which even a pipe that rests for its interval has fallen silent again.
"""

import time
from typing import Any

from benchmarks import peers
from benchmarks.plan import Plan
from benchmarks.processes import Load
from benchmarks.rows import Row

RATE = 20

Raw = dict[str, Any]


def measure(plan: Plan, _: list[Raw]) -> Raw:
    with (
        peers.ours() as ours,
        peers.one_write() as one_write,
        Load(ours) as ours_load,
        Load(one_write) as one_write_load,
    ):
        servers, loads = (ours, one_write), (ours_load, one_write_load)
        for server, load in zip(servers, loads, strict=True):
            server.get("/counts")
            load.read("ages")
            load.connect(1)
        # The first second warms up, and is thrown away.
        for seconds in (1.0, plan.lone_events / RATE):
            for server in servers:
                server.start(RATE, seconds)
                time.sleep(0.5 / RATE)
            time.sleep(seconds)
            ages = [load.snapshot()["ages"] for load in loads]
    return {"ours": ages[0], "one write": ages[1]}


def rows(repetitions: list[Raw]) -> list[Row]:
    return [
        Row(
            "one event alone, emit to receive / one write per event",
            [raw["ours"]["median"] / raw["one write"]["median"] for raw in repetitions],
            at_most=1.5,
        ),
        Row(
            "one event alone, emit to receive",
            [1e6 * raw["ours"]["median"] for raw in repetitions],
            unit="µs",
        ),
    ]
