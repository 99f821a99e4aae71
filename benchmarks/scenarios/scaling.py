"""What a delivered event costs the server, from ten viewers to five thousand.

10,000 events a second go to ten and to a hundred viewers, 1000 to a thousand and 200 to five
thousand: so every write carries about as much, and a million events are delivered a second in all
but the first case. What it costs to make as many events, encode them and hand them to a single
viewer is measured first, and taken off: that is paid once, however many there are.

The same is reported for a light load, 100,000 deliveries a second, with nothing taken off. There
the ten viewers get large writes and the five thousand small ones, so that is a figure of the
writes' size.
"""

import time
from typing import Any

from benchmarks import peers
from benchmarks.plan import Plan
from benchmarks.processes import Load, Server
from benchmarks.rows import Row

RATES = {10: 10_000, 100: 10_000, 1000: 1000, 5000: 200}
LONGER = {10: 2}
"""So many times the window, where what is taken off is most of the whole."""
LIGHT_RATE = 100_000

Raw = dict[str, Any]


def measure(plan: Plan, earlier: list[Raw]) -> Raw:
    raw: Raw = {"each": {}, "for one": {}, "light": {}}
    with peers.ours() as server, Load(server) as load:
        server.get("/counts")
        rates = {viewers: rate for viewers, rate in RATES.items() if viewers <= plan.most_viewers}
        load.connect(1)
        connected = 1
        for viewers, rate in rates.items():
            # It is much of the whole with few viewers, and little with many.
            again = not earlier or viewers in LONGER
            raw["for one"][str(viewers)] = (
                cost(plan, server, load, rate, LONGER.get(viewers, 1))
                if again
                else earlier[0]["for one"][str(viewers)]
            )
        for viewers, rate in rates.items():
            load.connect(viewers - connected)
            connected = viewers
            for_all = cost(plan, server, load, rate, LONGER.get(viewers, 1)) * viewers
            raw["each"][str(viewers)] = (for_all - raw["for one"][str(viewers)]) / (viewers - 1)
            if plan.climb and not earlier:
                raw["light"][str(viewers)] = cost(plan, server, load, LIGHT_RATE / viewers, 0.5)
    return raw


def cost(plan: Plan, server: Server, load: Load, rate: float, longer: float) -> float:
    """Return the CPU time of a delivery at a steady rate of events, in seconds: all of it."""
    settle, window = 2 * plan.warm, 1.5 * plan.window * longer
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

    def spread(which: str) -> list[float]:
        return [max(raw[which].values()) / min(raw[which].values()) for raw in repetitions if raw[which]]

    return [
        Row(
            f"CPU per delivered event, {measured[0]} to {measured[-1]} viewers, most / least",
            spread("each"),
            at_most=1.5,
        ),
        Row("all CPU per delivered event with a tenth of the load, most / least", spread("light")),
        *(
            Row(
                f"CPU per delivered event, {viewers} viewers",
                [1e6 * raw["each"][viewers] for raw in repetitions],
                unit="µs",
            )
            for viewers in measured
        ),
    ]
