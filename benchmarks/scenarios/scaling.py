"""What a delivered event costs the server, from ten viewers to five thousand.

10,000 events a second go to ten and to a hundred viewers, 1000 to a thousand and 200 to five
thousand: so every write carries about as much, and a million events are delivered a second in all
but the first case. What it costs to make as many events, encode them and hand them to a single
viewer is measured first, and taken off: that is paid once, however many there are.
"""

import time
from statistics import median
from typing import Any

from benchmarks import peers
from benchmarks.plan import Plan
from benchmarks.processes import Load, Server
from benchmarks.rows import Row

RATES = {10: 10_000, 100: 10_000, 1000: 1000, 5000: 200}
WINDOWS = {10: 4}
"""Windows whose median counts, where what is taken off is most of the whole; elsewhere one."""

Raw = dict[str, Any]


def measure(plan: Plan, earlier: list[Raw]) -> Raw:
    raw: Raw = {"each": {}, "for one": {}}
    with peers.ours() as server, Load(server) as load:
        server.get("/counts")
        rates = {viewers: rate for viewers, rate in RATES.items() if viewers <= plan.most_viewers}
        load.connect(1)
        connected = 1
        for viewers, rate in rates.items():
            windows = WINDOWS.get(viewers, 1)
            # It is much of the whole with few viewers, and little with many.
            again = not earlier or windows > 1
            raw["for one"][str(viewers)] = (
                cost(plan, server, load, 1, rate, windows) if again else earlier[0]["for one"][str(viewers)]
            )
        for viewers, rate in rates.items():
            load.connect(viewers - connected)
            connected = viewers
            for_all = cost(plan, server, load, viewers, rate, WINDOWS.get(viewers, 1))
            raw["each"][str(viewers)] = (for_all - raw["for one"][str(viewers)]) / (viewers - 1)
    return raw


def cost(plan: Plan, server: Server, load: Load, viewers: int, rate: float, windows: int) -> float:
    """Return the CPU time of an event that goes to so many viewers, in seconds: making it included."""
    return median(busy(plan, server, load, rate) for _ in range(windows)) * viewers


def busy(plan: Plan, server: Server, load: Load, rate: float) -> float:
    """Return the CPU time of a delivery at a steady rate of events, in seconds."""
    settle, window = 2 * plan.warm, 1.5 * plan.window
    server.start(rate, settle + window + 0.2)
    time.sleep(settle)
    begin, cpu = load.snapshot(), server.cpu()
    time.sleep(window)
    end, cpu = load.snapshot(), server.cpu() - cpu
    server.wait_until_quiet()
    load.wait_until_drained()
    return cpu / (end["events"] - begin["events"])


def rows(repetitions: list[Raw]) -> list[Row]:
    measured = list(repetitions[0]["each"])
    spread = [max(raw["each"].values()) / min(raw["each"].values()) for raw in repetitions]
    return [
        Row(
            f"CPU per delivered event, {measured[0]} to {measured[-1]} viewers, most / least",
            spread,
            at_most=1.5,
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
