"""Two workers and a Valkey server: what the relay carries, what it adds, and what its server can do to a host.

One worker emits, on the server's core. The other one has a viewer, on the load's core, with the
Valkey server. First at 1000 events/s: the emitter has a viewer too, and the relay adds what events are
older at the other one's. In the first repetition of a full run the server is then paused, for the same again.
Last at 22,000 events/s, more than is asked for; the emitter has no viewer then.
"""

import os
import signal
import time
from typing import Any

from benchmarks.machine import LOAD_CORE, SERVER_CORE, cpu_seconds
from benchmarks.plan import Plan
from benchmarks.relay import RelayWorker, run_valkey
from benchmarks.rows import Row

LIGHT_RATE, FULL_RATE = 1000, 22_000

Raw = dict[str, Any]


def measure(plan: Plan, earlier: list[Raw]) -> Raw:
    with (
        run_valkey() as valkey,
        RelayWorker(valkey, LOAD_CORE, "relay_there") as there,
        RelayWorker(valkey, SERVER_CORE, "relay_here") as here,
    ):
        here.watch()
        there.watch()
        light(here, there, plan.warm)  # warms up, and is thrown away
        raw: Raw = {"light": light(here, there, 0.75 * plan.window)}
        if plan.climb and not earlier:
            os.kill(valkey.pid, signal.SIGSTOP)
            try:
                raw["paused"] = light(here, None, 0.75 * plan.window)
            finally:
                os.kill(valkey.pid, signal.SIGCONT)
            here.wait_until_sent()
        here.unwatch()
        raw["full"] = full(plan, here, there, valkey.pid)
    return raw


def light(here: RelayWorker, there: RelayWorker | None, seconds: float) -> Raw:
    """Return what an emit costs, and how old events are at the viewer here, and at the one there."""
    for worker in filter(None, (here, there)):
        worker.note(ages=True)
    here.emit(LIGHT_RATE, seconds)
    time.sleep(seconds)
    if there is None:
        now = here.wait(lambda now: not now["emitting"])
        return {"emit": now["emit"], "here": now["ages"]}
    sent = here.wait_until_sent()
    elsewhere = there.wait(lambda now: now["events"] >= sent["events"])
    return {"emit": sent["emit"], "here": sent["ages"], "there": elsewhere["ages"]}


def full(plan: Plan, here: RelayWorker, there: RelayWorker, server: int) -> Raw:
    """Return what comes there in a second, what is lost, and what it costs all three, an event."""
    there.note(ages=False)
    offered = here.snapshot()["relay"]["offered"]
    there.wait(lambda now: now["events"] >= offered)
    here.emit(FULL_RATE, plan.warm + plan.window + 0.2)
    time.sleep(plan.warm)
    begin, began_here, cpu = there.snapshot(), here.snapshot(), cpu_seconds(server)
    time.sleep(plan.window)
    end, ended_here, cpu = there.snapshot(), here.snapshot(), cpu_seconds(server) - cpu
    events = end["events"] - begin["events"]
    sent = here.wait_until_sent()
    after = there.wait(lambda now: now["events"] >= sent["relay"]["offered"])
    return {
        "relayed": events / (end["at"] - begin["at"]),
        "dropped at the entrance": sent["dropped"],
        "lost on the way out": sent["relay"]["lost_out"],
        "lost": sent["dropped"] + sent["relay"]["offered"] - after["events"],
        "cpu here": (ended_here["cpu"] - began_here["cpu"])
        / (ended_here["relay"]["sent"] - began_here["relay"]["sent"]),
        "cpu there": (end["cpu"] - begin["cpu"]) / events,
        "cpu server": cpu / events,
    }


def rows(repetitions: list[Raw]) -> list[Row]:
    def added(which: str) -> list[float]:
        return [1e3 * (raw["light"]["there"][which] - raw["light"]["here"][which]) for raw in repetitions]

    def microseconds(which: str) -> list[float]:
        return [1e6 * raw["full"][f"cpu {which}"] for raw in repetitions]

    def paused(what: str) -> list[float]:
        return [
            raw["paused"][what]["median"] / raw["light"][what]["median"]
            for raw in repetitions
            if "paused" in raw
        ]

    full = f"relay, {FULL_RATE:,} events/s offered"
    return [
        Row(
            f"{full}: events/s at the other worker",
            [raw["full"]["relayed"] for raw in repetitions],
            at_least=20_000,
            unit="/s",
        ),
        Row(
            f"{full}: events lost",
            [raw["full"]["lost"] for raw in repetitions],
            at_most=0,
            judge="worst",
            unit="",
        ),
        Row(f"relay, {LIGHT_RATE} events/s: latency that it adds, median", added("median"), unit="ms"),
        Row(f"relay, {LIGHT_RATE} events/s: latency that it adds, p99", added("p99"), unit="ms"),
        Row(f"{full}: CPU per event of who emits it", microseconds("here"), unit="µs"),
        Row(f"{full}: CPU per event of who gets it", microseconds("there"), unit="µs"),
        Row(f"{full}: CPU per event of the Valkey server", microseconds("server"), unit="µs"),
        Row("emit, the relay's server paused / running", paused("emit")),
        Row("events at the own viewer, the relay's server paused / running, median age", paused("here")),
    ]
