"""What a worker costs by the number of workers: ``python -m benchmarks.relay_workers``, two minutes.

Two simulations of a large deployment at a small scale, in seconds of CPU and not of time, since all of them
share the cores of one machine:

- one real worker with a viewer, and the messages of up to 64 others that only write (``relay_senders.py``).
  What it takes is fitted with ``events/s x E + messages/s x M + reads/s x R``;
- one to eight real workers, each a process with a viewer, that all emit their part of the same rate. What
  each takes is compared with the model: E, M and R from above, and what its own events cost it alone.
"""

import time
from contextlib import ExitStack
from typing import Any

import numpy as np

from .machine import LOAD_CORE, SERVER_CORE, cpu_seconds
from .processes import Child, python_module
from .relay import RelayWorker, Valkey, run_valkey

SECONDS = 5.0
WARM = 1.5
SENDERS = ((20, 20), (1, 2000), (4, 2000), (16, 2000), (64, 2000), (4, 10_000), (16, 10_000), (64, 10_000))
WORKERS = (2, 4, 8)
RATE = 2000
INTERVAL = 1 / 30


def reads(messages: float) -> float:
    """Return how often a worker reads when so many messages come in a second."""
    return min(messages, 2 / INTERVAL)


def busy(worker: RelayWorker, valkey: Valkey) -> dict[str, float]:
    """Return what a worker and the server do in some seconds."""
    begin, cpu = worker.snapshot(), cpu_seconds(valkey.pid)
    time.sleep(SECONDS)
    end, cpu = worker.snapshot(), cpu_seconds(valkey.pid) - cpu
    seconds = end["at"] - begin["at"]
    return {
        "cpu": (end["cpu"] - begin["cpu"]) / seconds,
        "events": (end["relay"]["relayed"] - begin["relay"]["relayed"]) / seconds,
        "lost": end["relay"]["lost_in"],
        "server": cpu / seconds,
    }


def one_among(senders: int, rate: int) -> dict[str, float]:
    """Return what one worker takes among so many others that emit."""
    with run_valkey() as valkey, RelayWorker(valkey, SERVER_CORE) as worker:
        worker.watch()
        command = python_module("relay_senders", valkey.url, str(senders), str(rate), str(SECONDS + 2 * WARM))
        with Child("relay_senders", command, LOAD_CORE):
            time.sleep(2 * WARM)
            found = busy(worker, valkey)
    # As many as were to come, or what of them a busy machine let be sent.
    return {**found, "messages": min(senders / INTERVAL, rate) * found["events"] / rate}


def several(number: int, rate: float) -> list[dict[str, Any]]:
    """Return what each of so many real workers takes at a rate of events in all."""
    with run_valkey() as valkey, ExitStack() as stack:
        workers = [
            stack.enter_context(
                RelayWorker(valkey, (SERVER_CORE, LOAD_CORE)[index % 2], f"relay_worker_{index}")
            )
            for index in range(number)
        ]
        for worker in workers:
            worker.watch()
        for worker in workers:
            worker.emit(rate / number, SECONDS + 3 * WARM)
        time.sleep(WARM)
        begin, server = [worker.snapshot() for worker in workers], cpu_seconds(valkey.pid)
        time.sleep(SECONDS)
        server = (cpu_seconds(valkey.pid) - server) / SECONDS
        return [
            {
                "server": server,
                "own": (end["relay"]["offered"] - before["relay"]["offered"]) / (end["at"] - before["at"]),
                "cpu": (end["cpu"] - before["cpu"]) / (end["at"] - before["at"]),
                "lost": end["relay"]["lost_in"] + end["relay"]["lost_out"] + end["dropped"],
            }
            for before, end in zip(begin, (worker.snapshot() for worker in workers), strict=True)
        ]


def main() -> None:
    """Run both."""
    print("others  events/s  messages/s   a worker's core   lost    server's core")
    among = []
    for senders, rate in SENDERS:
        among.append(found := one_among(senders, rate))
        print(
            f"{senders:6}  {found['events']:8.0f}  {found['messages']:10.0f}   {found['cpu']:15.1%}  {found['lost']:5.0f}"
            f"   {found['server']:14.1%}",
            flush=True,
        )
    table = np.array([(each["events"], each["messages"], reads(each["messages"]), 1) for each in among])
    taken = np.array([each["cpu"] for each in among])
    # Each row counts by what it is of itself: the small ones too.
    (event, message, read, idle), *_ = np.linalg.lstsq(
        table / taken[:, None], np.ones(len(taken)), rcond=None
    )
    apart = table @ (event, message, read, idle) / taken - 1
    print(
        f"\nE {event * 1e6:.1f} us an event, M {message * 1e6:.0f} us a message, R {read * 1e6:.0f} us a read, "
        f"{idle:.1%} at rest; the rows above are {min(apart):+.0%} to {max(apart):+.0%} from that\n"
    )
    [quiet], [alone] = several(1, RATE / 8), several(1, RATE)
    own_event = (alone["cpu"] - quiet["cpu"]) / (alone["own"] - quiet["own"])
    own_rest = alone["cpu"] - own_event * alone["own"]
    print(f"its own events alone: {own_event * 1e6:.1f} us an event and {own_rest:.1%}\n")
    print(
        f"workers, {RATE} events/s in all   each one's core   by the model   deviation   lost    server's core"
    )
    for number in WORKERS:
        found = several(number, RATE)
        cpu = sum(each["cpu"] for each in found) / number
        # Its own part; and that of the others, who each write in every interval.
        own = sum(each["own"] for each in found) / number
        model = own_rest + own_event * own + event * own * (number - 1)
        model += message * (number - 1) / INTERVAL + read * (reads(number / INTERVAL) - reads(1 / INTERVAL))
        print(
            f"{number:7}  {own * number:16.0f}   {cpu:15.1%}   {model:12.1%}   {cpu / model - 1:+9.0%}   {sum(each['lost'] for each in found):4}"
            f"   {found[0]['server']:14.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
