"""What an idle viewer holds: ours is what our stream takes more than one that only waits.

The same number of viewers on four servers of the same stack, each with more of it. The first
hundred viewers pay for what is held once, and are not counted.
"""

import time
from collections.abc import Callable

from benchmarks import peers
from benchmarks.plan import Plan
from benchmarks.processes import Load, Server
from benchmarks.rows import Row

FIRST_VIEWERS = 100

Raw = dict[str, float]

SERVERS: dict[str, Callable[[], Server]] = {
    "hypercorn": lambda: peers.waiting("hypercorn"),
    "quart": lambda: peers.waiting("quart"),
    "ours": peers.ours,
}


def measure(plan: Plan, _: list[Raw]) -> Raw:
    raw: Raw = {}
    for name, start in SERVERS.items():
        with start() as server, Load(server) as load:
            server.get("/counts")
            load.connect(FIRST_VIEWERS)
            time.sleep(0.3)
            before = server.memory()
            load.connect(plan.idle_viewers)
            time.sleep(0.5)
            raw[name] = (server.memory() - before) / plan.idle_viewers / 1024
            load.snapshot()  # all are still there
    return raw


def rows(repetitions: list[Raw]) -> list[Row]:
    return [
        Row(
            "memory per idle viewer, ours",
            [raw["ours"] - raw["quart"] for raw in repetitions],
            at_most=8,
            unit="KiB",
        ),
        Row(
            "memory per idle viewer, Quart's",
            [raw["quart"] - raw["hypercorn"] for raw in repetitions],
            unit="KiB",
        ),
        Row("memory per idle viewer, Hypercorn's", [raw["hypercorn"] for raw in repetitions], unit="KiB"),
    ]
