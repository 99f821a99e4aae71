"""A hundred viewers: how much a server can deliver, what it loses, what a usual rate costs.

Saturation is searched by a ladder: the offered rate is doubled until the delivered rate grows
no more, then quarters of a step above the best are tried, and the best window counts. Later
repetitions begin below where the first one found the best, and go in quarters of a step; a quick
run begins where a machine of today saturates. The steps are fine since a server that is offered
more than it can deliver delivers less: to make the events takes the same core.
"""

import time
from collections.abc import Callable
from typing import Any

from benchmarks import peers
from benchmarks.plan import Plan
from benchmarks.processes import Load, Server
from benchmarks.rows import Row

VIEWERS = 100
USUAL_RATE = 100
NO_LOSS_RATE = 10_000
FINE_STEP = 2**0.25
GROWTH = 1.05
"""Less than this from one rung to the next is no growth."""

Raw = dict[str, Any]

FIRST_RUNGS = {
    "one write": 50,
    "ours": 10_000,
    "sse-starlette": 50,
    "sse-starlette, lean": 400,
    "better-sse": 400,
}
QUICK_FIRST_RUNG = 4
"""So many times the first rung is where a quick run begins."""


def measure(plan: Plan, earlier: list[Raw]) -> Raw:
    starters: dict[str, Callable[[], Server] | None] = {
        "one write": peers.one_write,
        "ours": peers.ours,
        "sse-starlette": peers.starlette,
        "sse-starlette, lean": peers.lean_starlette if plan.climb and not earlier else None,
        "better-sse": peers.better_sse(),
    }
    raw: Raw = {}
    for name, start in starters.items():
        if start is None:
            continue
        with start() as server, Load(server) as load:
            load.connect(VIEWERS)
            raw[name] = {}
            if "starlette" in name or name == "ours":
                raw[name]["usual"] = rung(plan, server, load, USUAL_RATE, 2 * plan.window)
            if name == "ours":
                load.read("audit")
                raw["no loss"] = rung(plan, server, load, NO_LOSS_RATE, 2 * plan.window)
            raw[name]["ladder"] = climb(plan, name, server, load, earlier)
    batch_size = max(round(saturated(raw["ours"])["events_a_write"]), 1)
    raw["bare"] = limit(plan, peers.bare(batch_size), batch_size, "discard")
    raw["bare, counted"] = limit(plan, peers.bare(batch_size), batch_size, "count")
    raw["stack"] = limit(plan, peers.stack(batch_size), batch_size, "discard")
    return raw


def climb(plan: Plan, name: str, server: Server, load: Load, earlier: list[Raw]) -> list[Raw]:
    """Return all rungs of a server's ladder."""
    audit = name == "ours"
    if earlier:
        return steps(
            plan, server, load, saturated(earlier[0][name])["rate"] / FINE_STEP, FINE_STEP, audit=audit
        )
    first = FIRST_RUNGS[name] * (1 if plan.climb else QUICK_FIRST_RUNG)
    rungs = steps(plan, server, load, first, 2, audit=audit)
    if not plan.climb:
        return rungs
    best = saturated({"ladder": rungs})["rate"]
    finer = [rung(plan, server, load, best * FINE_STEP**step, plan.window, audit=audit) for step in (1, 2, 3)]
    return [*rungs, *finer]


def steps(plan: Plan, server: Server, load: Load, rate: float, factor: float, *, audit: bool) -> list[Raw]:
    """Return the rungs from a rate upwards, the last of them without growth."""
    rungs: list[Raw] = []
    best = 0.0
    while True:
        rungs.append(rung(plan, server, load, rate, plan.window, audit=audit))
        if rungs[-1]["delivered"] < GROWTH * best:
            return rungs
        best = max(best, rungs[-1]["delivered"])
        rate *= factor


def rung(plan: Plan, server: Server, load: Load, rate: float, window: float, *, audit: bool = True) -> Raw:
    """Offer events at one rate; return what was delivered in the window.

    With ``audit`` also what was lost in all, for which what is still queued in the end is waited
    for. The queues of an overloaded peer last for many seconds, and its losses are not asked for.
    """
    seconds = plan.warm + window + 0.2
    before, emitted_before = load.snapshot(), server.get("/counts")["emitted"]
    server.start(rate, seconds)
    time.sleep(plan.warm)
    measured = watch(server, load, window)
    emitted = server.wait_until_quiet()["emitted"] - emitted_before
    result = {"rate": rate, "planned": int(rate * seconds), "emitted": emitted, **measured}
    if audit:
        after = load.wait_until_drained()
        result["lost"] = emitted * VIEWERS - (after["events"] - before["events"])
        result["told"] = after["missed_told"] - before["missed_told"]
    return result


def watch(server: Server, load: Load, window: float) -> Raw:
    """Return what happens in so many seconds."""
    begin, cpu = load.snapshot(), server.cpu()
    time.sleep(window)
    end, cpu = load.snapshot(), server.cpu() - cpu
    duration = end["at"] - begin["at"]
    writes = end["first_writes"] - begin["first_writes"]
    return {
        "delivered": (end["events"] - begin["events"]) / duration,
        "bytes": (end["bytes"] - begin["bytes"]) / duration,
        "events_a_write": (end["first_events"] - begin["first_events"]) / writes if writes else None,
        "server_busy": cpu / duration,
        "load_busy": (end["cpu"] - begin["cpu"]) / duration,
    }


def limit(plan: Plan, below: Server, batch_size: int, how: str) -> Raw:
    """Measure what is below us, with batches of the size that ours had."""
    with below as server, Load(server) as load:
        event_bytes = server.get("/counts")["batch_bytes"] / batch_size
        load.connect(VIEWERS)
        load.read(how)
        server.start(1, plan.warm + plan.window)
        if below.name == "stack":
            server.get("/write")
        time.sleep(plan.warm / 2)
        measured = watch(server, load, plan.window)
    return {**measured, "batch_size": batch_size, "delivered": measured["bytes"] / event_bytes}


def saturated(server: Raw) -> Raw:
    """Return the best rung of a server's ladder."""
    best: Raw = max(server["ladder"], key=lambda rung: rung["delivered"])
    return best


def untold(raw: Raw) -> int:
    """Return by how many events the viewers were told wrongly of what they lost."""
    return sum(abs(run["lost"] - run["told"]) for run in [raw["no loss"], *raw["ours"]["ladder"]])


def lost(raw: Raw) -> int:
    """Return the events lost, or not even emitted, at all rates up to that of the target."""
    total = 0
    for run in [raw["no loss"], raw["ours"]["usual"], *raw["ours"]["ladder"]]:
        if run["rate"] <= NO_LOSS_RATE:
            # The last look at the clock is some milliseconds before the end.
            total += run["lost"] + max(int(0.98 * run["planned"]) - run["emitted"], 0) * VIEWERS
    return total


def rows(repetitions: list[Raw]) -> list[Row]:
    def delivered(name: str) -> list[float]:
        return [saturated(raw[name])["delivered"] for raw in repetitions if name in raw]

    def against(name: str) -> list[float]:
        # A peer that no target asks for is measured once.
        return [ours / theirs for ours, theirs in zip(delivered("ours"), delivered(name), strict=False)]

    best = [saturated(raw["ours"]) for raw in repetitions]
    bare_limit = [raw["bare"]["delivered"] for raw in repetitions]
    usual = [raw["ours"]["usual"] for raw in repetitions]
    return [
        Row("delivered events/s, 100 viewers / sse-starlette", against("sse-starlette"), at_least=60),
        Row("delivered events/s, 100 viewers / one write per event", against("one write"), at_least=100),
        Row(
            "delivered events/s, 100 viewers / bare socket.send",
            [ours / limit for ours, limit in zip(delivered("ours"), bare_limit, strict=True)],
            at_least=0.5,
        ),
        Row(
            "delivered events/s, 100 viewers / the same, with a client that counts",
            [
                ours / raw["bare, counted"]["delivered"]
                for ours, raw in zip(delivered("ours"), repetitions, strict=True)
            ],
        ),
        Row(
            "Quart-Trio and Hypercorn with nothing of ours / bare socket.send",
            [raw["stack"]["delivered"] / raw["bare"]["delivered"] for raw in repetitions],
        ),
        Row(
            "delivered events/s, 100 viewers / Quart-Trio and Hypercorn with nothing of ours",
            [
                ours / raw["stack"]["delivered"]
                for ours, raw in zip(delivered("ours"), repetitions, strict=True)
            ],
        ),
        Row("delivered events/s, 100 viewers / better-sse", against("better-sse")),
        Row(
            "delivered events/s, 100 viewers / sse-starlette without its check",
            against("sse-starlette, lean"),
        ),
        Row("delivered events/s, 100 viewers", delivered("ours"), unit="/s"),
        Row(
            "server busy in these runs, the least",
            [
                min(saturated(raw[name])["server_busy"] for name in FIRST_RUNGS if name in raw)
                for raw in repetitions
            ],
            unit="",
        ),
        Row("bare socket.send, events/s", bare_limit, unit="/s"),
        Row(
            "bare socket.send, events/s, with a client that counts",
            [raw["bare, counted"]["delivered"] for raw in repetitions],
            unit="/s",
        ),
        Row(
            "load client busy, ours saturated",
            [run["load_busy"] for run in best],
            at_most=0.9,
            judge="worst",
            unit="",
        ),
        Row(
            "load client busy, bare socket.send",
            [raw["bare"]["load_busy"] for raw in repetitions],
            at_most=0.9,
            judge="worst",
            unit="",
        ),
        Row(
            "events lost, up to 10,000 events/s emitted",
            [lost(raw) for raw in repetitions],
            at_most=0,
            judge="worst",
            unit="",
        ),
        Row(
            "events lost at any rate that the viewers were not told of",
            [untold(raw) for raw in repetitions],
            at_most=0,
            judge="worst",
            unit="",
        ),
        Row(
            "server CPU, 100 viewers x 100 events/s / sse-starlette",
            [
                ours["server_busy"] / raw["sse-starlette"]["usual"]["server_busy"]
                for ours, raw in zip(usual, repetitions, strict=True)
            ],
            at_most=0.3,
        ),
        Row(
            "server CPU, 100 viewers x 100 events/s / sse-starlette without its check",
            [
                ours["server_busy"] / raw["sse-starlette, lean"]["usual"]["server_busy"]
                for ours, raw in zip(usual, repetitions, strict=True)
                if "sse-starlette, lean" in raw
            ],
        ),
    ]
