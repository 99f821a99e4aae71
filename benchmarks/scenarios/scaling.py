"""What a delivered event costs the server, from ten viewers to five thousand.

10,000 events a second go to ten and to a hundred viewers, 1000 to a thousand and 200 to five
thousand: so every write carries about as much, and a million events are delivered a second in all
but the first case. What it costs to make as many events, encode them and hand them to a single
viewer is taken off: that is paid once, however many there are. With ten viewers it is most of the
whole, and a machine whose speed drifts by a tenth from one window to the next would double the
difference. So there a second server with a single viewer takes turns with the first, and of each
the least counts: whatever else the machine does can only add to it.

The same is asked of the stack below us with nothing of ours, which writes as much to as many: a
process that sleeps most of the time, as one with ten viewers does, pays more for each write.
"""

import time
from collections.abc import Iterator
from typing import Any

from benchmarks import peers
from benchmarks.plan import Plan
from benchmarks.processes import Load, Server
from benchmarks.rows import Row
from benchmarks.servers.stack import AT_A_TIME

FEW = 10
TURNS = 4
"""So often ten viewers and one are measured in turn."""
BATCH = 256
"""Events in a write of the stack's: about as many as ours has in each of these cases."""
RATES = {FEW: 10_000, 100: 10_000, 1000: 1000, 5000: 200}

Raw = dict[str, Any]


def measure(plan: Plan, earlier: list[Raw]) -> Raw:
    raw: Raw = {}
    rates = {viewers: rate for viewers, rate in RATES.items() if viewers <= plan.most_viewers}
    long, short = 1.75 * plan.window, 0.5 * plan.window
    with peers.ours() as server, Load(server) as load:
        with peers.ours() as quiet, Load(quiet) as one:
            for each in (server, quiet):
                each.get("/counts")
            one.connect(1)
            load.connect(FEW)
            turns = [
                (cost(quiet, one, rates[FEW], short), cost(server, load, rates[FEW], short) * FEW)
                for _ in range(TURNS)
            ]
            for_one, for_all = map(min, zip(*turns, strict=True))
            raw["for one"] = {str(FEW): for_one}
            raw["each"] = {str(FEW): (for_all - for_one) / (FEW - 1)}
            for viewers, rate in rates.items():
                if viewers != FEW:  # it is little of the whole: once is enough
                    raw["for one"][str(viewers)] = (
                        earlier[0]["for one"][str(viewers)] if earlier else cost(quiet, one, rate, long)
                    )
        for viewers, rate in crowds(load, rates, FEW):
            if viewers != FEW:
                for_all = cost(server, load, rate, long) * viewers
                raw["each"][str(viewers)] = (for_all - raw["for one"][str(viewers)]) / (viewers - 1)
    if plan.climb and not earlier:
        raw["stack"] = below(rates, short)
    return raw


def below(rates: dict[int, int], seconds: float) -> dict[str, float]:
    """Return what a delivered event costs the stack, with nothing of ours, for so many viewers."""
    costs: dict[str, float] = {}
    with peers.stack(BATCH) as server, Load(server) as load:
        server.get("/counts")
        for viewers, rate in crowds(load, rates):
            turns = viewers * rate / BATCH / AT_A_TIME
            times = TURNS if viewers == FEW else 1
            costs[str(viewers)] = min(cost(server, load, turns, seconds) for _ in range(times))
    return costs


def crowds(load: Load, rates: dict[int, int], connected: int = 0) -> Iterator[tuple[int, int]]:
    """Connect more and more viewers, and give each number of them with its rate once they are there."""
    for viewers, rate in rates.items():
        load.connect(viewers - connected)
        connected = viewers
        yield viewers, rate


def cost(server: Server, load: Load, rate: float, seconds: float) -> float:
    """Return the CPU time of a delivery at a steady rate of events, in seconds: all of it.

    From the first event to the last delivery: a round to five thousand viewers takes a second, and
    a window would have part of one in it.
    """
    begin, cpu = load.snapshot(), server.cpu()
    server.start(rate, seconds)
    time.sleep(seconds)
    server.wait_until_quiet()
    end, cpu = load.wait_until_drained(), server.cpu() - cpu
    return cpu / (end["events"] - begin["events"])


def spread(costs: dict[str, float]) -> float:
    """Return the most by the least."""
    return max(costs.values()) / min(costs.values())


def rows(repetitions: list[Raw]) -> list[Row]:
    measured = list(repetitions[0]["each"])

    return [
        Row(
            f"CPU per delivered event, {measured[0]} to {measured[-1]} viewers, most / least",
            [spread(raw["each"]) for raw in repetitions],
            at_most=1.5,
        ),
        Row(
            "the same, Quart-Trio and Hypercorn with nothing of ours",
            [spread(raw["stack"]) for raw in repetitions if "stack" in raw],
        ),
        *(
            Row(
                f"CPU per delivered event, {viewers} viewers",
                [1e6 * raw["each"][viewers] for raw in repetitions],
                unit="µs",
            )
            for viewers in measured
        ),
    ]
