"""What the host's own requests feel of the viewers, and how old events are when they arrive.

One server, in steps: no viewer; a thousand plain requests at once; a thousand viewers
at once; these viewers at 100 events/s; five thousand viewers at 20 events/s. Then, but not in a
quick run, a server of the same stack with nothing of ours: a thousand requests and a thousand
streams at once and, in the first repetition, five thousand streams that write as often as ours.
Meanwhile ``GET /ping`` is due a hundred times a second (see ``pinger.py``). Events are also
emitted while there is no viewer, so that the viewers are all that differs.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks import peers
from benchmarks.plan import Plan
from benchmarks.processes import Load, Pinger, Server
from benchmarks.quantiles import quantiles
from benchmarks.rows import Row
from benchmarks.servers.stack import AT_A_TIME as STREAMS_AT_A_TIME

INTERVAL = 0.01
STORM_INTERVAL = 0.005
STORM_LEAD = 0.3
CROWD, CROWD_RATE = 1000, 100
HALL, HALL_RATE = 5000, 20
HALL_BATCH = 20
"""Events in a write to each of so many viewers, about: they are served once a second."""
AFTERMATH_NS = 300_000_000
"""What has piled up in a full garbage collection is done so long after its end, at most."""

Raw = dict[str, Any]


def measure(plan: Plan, earlier: list[Raw]) -> Raw:
    with peers.ours() as server, Load(server) as load, Pinger(server) as pinger:
        server.get("/counts")
        load.read("ages")
        raw = {"alone": watched(plan, server, load, pinger, CROWD_RATE)}
        raw["requests"] = storm(pinger, lambda: load.fetch(CROWD))
        raw["viewers"] = storm(pinger, lambda: load.connect(CROWD, together=True))
        raw["crowd"] = watched(plan, server, load, pinger, CROWD_RATE)
        load.connect(HALL - CROWD)
        raw["hall"] = watched(plan, server, load, pinger, HALL_RATE)
    if not plan.climb:
        return raw
    with peers.stack(HALL_BATCH) as server, Load(server) as load, Pinger(server) as pinger:
        server.get("/counts")
        raw["bare requests"] = storm(pinger, lambda: load.fetch(CROWD))
        raw["bare viewers"] = storm(pinger, lambda: load.connect(CROWD, together=True))
        if not earlier:
            load.connect(HALL - CROWD)
            server.start(HALL * HALL_RATE / HALL_BATCH / STREAMS_AT_A_TIME, 2 * plan.warm + plan.host_window)
            time.sleep(2 * plan.warm)
            raw["bare hall"] = pings(plan, server, pinger)
    return raw


def watched(plan: Plan, server: Server, load: Load, pinger: Pinger, rate: float) -> Raw:
    """Measure the host's requests, and the events' ages, at a steady rate of events."""
    settle = 2 * plan.warm
    before = load.snapshot()
    emitted = server.get("/counts")["emitted"]
    server.start(rate, settle + plan.host_window + 0.5)
    time.sleep(settle)
    begin, cpu = load.snapshot(), server.cpu()
    measured = pings(plan, server, pinger)
    end, cpu = load.snapshot(), server.cpu() - cpu
    emitted = server.wait_until_quiet()["emitted"] - emitted
    after = load.wait_until_drained()
    events = end["events"] - begin["events"]
    duration = end["at"] - begin["at"]
    return {
        **measured,
        "ages": end["ages"],
        "viewers": end["viewers"],
        "lost": emitted * end["viewers"] - (after["events"] - before["events"]),
        "told": after["missed_told"] - before["missed_told"],
        "delivered": events / duration,
        "server_busy": cpu / duration,
        "load_busy": (end["cpu"] - begin["cpu"]) / duration,
    }


def pings(plan: Plan, server: Server, pinger: Pinger) -> Raw:
    """Measure the host's requests, and apart those that no full garbage collection delayed."""
    pinger.begin(INTERVAL)
    time.sleep(plan.host_window)
    answers = pinger.end()
    collections = server.get("/counts")["full_collections"]
    apart = [
        latency
        for due, latency in answers
        if not any(due < ended + AFTERMATH_NS and due + latency > began for began, ended in collections)
    ]
    first = answers[0][0]
    return {
        "ping": quantiles([latency / 1e9 for _, latency in answers]),
        "ping apart": quantiles([latency / 1e9 for latency in apart]),
        "collections": [(ended - began) / 1e9 for began, ended in collections if began > first],
    }


def storm(pinger: Pinger, rush: Callable[[], dict[str, int]]) -> Raw:
    """Measure the host's requests that were due while many connections came at once."""
    pinger.begin(STORM_INTERVAL)
    time.sleep(STORM_LEAD)
    times = rush()
    pings = [latency / 1e9 for due, latency in pinger.end() if times["began"] <= due <= times["ended"]]
    return {"ping": quantiles(pings), "seconds": (times["ended"] - times["began"]) / 1e9}


def rows(repetitions: list[Raw]) -> list[Row]:
    def latency(step: str, which: str) -> list[float]:
        return [raw[step]["ping"][which] for raw in repetitions]

    def against(step: str, base: str, which: str) -> list[float]:
        # One base for all: a repetition in which the base was disturbed would look good.
        theirs = median(latency(base, which))
        return [ours / theirs for ours in latency(step, which)]

    def milliseconds(values: list[float]) -> list[float]:
        return [1000 * value for value in values]

    def age(step: str) -> list[float]:
        return [raw[step]["ages"]["p99"] for raw in repetitions]

    crowd, hall = "1000 viewers x 100 events/s", "5000 viewers x 20 events/s"
    return [
        Row(f"host request, {crowd} / no viewer, median", against("crowd", "alone", "median"), at_most=2.5),
        Row(f"host request, {crowd} / no viewer, p99", against("crowd", "alone", "p99"), at_most=2.5),
        Row("host request, no viewer, median", milliseconds(latency("alone", "median")), unit="ms"),
        Row("host request, no viewer, p99", milliseconds(latency("alone", "p99")), unit="ms"),
        Row(f"host request, {crowd}, median", milliseconds(latency("crowd", "median")), unit="ms"),
        Row(f"host request, {crowd}, p99", milliseconds(latency("crowd", "p99")), unit="ms"),
        Row(f"age of events, {crowd}, p99", milliseconds(age("crowd")), at_most=400, unit="ms"),
        Row(f"host request, {hall} / no viewer, p99", against("hall", "alone", "p99"), at_most=4),
        Row(
            f"host request, {hall}, those that no full garbage collection delayed / no viewer, p99",
            [
                raw["hall"]["ping apart"]["p99"] / median(latency("alone", "p99"))
                for raw in repetitions
                if raw["hall"]["ping apart"]
            ],
        ),
        Row(
            f"host request, {hall}: as many writes by the stack alone / no viewer, p99",
            [
                raw["bare hall"]["ping"]["p99"] / median(latency("alone", "p99"))
                for raw in repetitions
                if "bare hall" in raw
            ],
        ),
        Row(
            "full garbage collection with 5000 viewers, longest",
            milliseconds([max(raw["hall"]["collections"], default=0.0) for raw in repetitions]),
            unit="ms",
        ),
        Row(f"host request, {hall}, p99", milliseconds(latency("hall", "p99")), unit="ms"),
        Row(f"age of events, {hall}, p99", milliseconds(age("hall")), at_most=2000, unit="ms"),
        Row(
            "host request, 1000 viewers connect / 1000 requests, p99",
            against("viewers", "requests", "p99"),
            at_most=1.5,
        ),
        Row(
            "the same on Quart-Trio and Hypercorn with nothing of ours, p99",
            against("bare viewers", "bare requests", "p99") if "bare viewers" in repetitions[0] else [],
        ),
        Row("host request, 1000 viewers connect, p99", milliseconds(latency("viewers", "p99")), unit="ms"),
    ]
