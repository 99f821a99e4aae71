"""What a delivered event costs the server, from ten viewers to five thousand.

A million events are delivered a second in all: 10,000 to each of a hundred viewers, 200 to each
of five thousand; to ten as many as a core can make. So every write carries about as much, and
what differs is over how many viewers they are spread, which is the question. What it costs to
make as many events, encode them and hand them to a single viewer is measured first, and taken
off: that is paid once, however many there are.

The same is reported for a light load, 100,000 deliveries a second. There the ten viewers get
large writes and the five thousand small ones, so that is a figure of the writes' size.
"""

import time
from typing import Any

from benchmarks import peers
from benchmarks.plan import Plan
from benchmarks.processes import Load, Server
from benchmarks.rows import Row

RATES = {10: 20_000, 100: 10_000, 1000: 1000, 5000: 200}
LIGHT_RATE = 100_000

Raw = dict[str, Any]


def measure(plan: Plan, earlier: list[Raw]) -> Raw:
    raw: Raw = {"heavy": {}, "light": {}, "for one": {}}
    with peers.ours() as server, Load(server) as load:
        server.get("/counts")
        rates = {viewers: rate for viewers, rate in RATES.items() if viewers <= plan.most_viewers}
        load.connect(1)
        connected = 1
        for viewers, rate in rates.items():
            # It is much of the whole with few viewers, and little with many.
            again = not earlier or viewers == min(rates)
            raw["for one"][str(viewers)] = (
                busy(plan, server, load, rate)["cpu"] if again else earlier[0]["for one"][str(viewers)]
            )
        for viewers, rate in rates.items():
            load.connect(viewers - connected)
            connected = viewers
            heavy = busy(plan, server, load, rate)
            others = heavy["events"] * (1 - 1 / viewers)
            raw["heavy"][str(viewers)] = (heavy["cpu"] - raw["for one"][str(viewers)]) / others
            if plan.climb and not earlier:
                light = busy(plan, server, load, LIGHT_RATE / viewers)
                raw["light"][str(viewers)] = light["cpu"] / light["events"]
    return raw


def busy(plan: Plan, server: Server, load: Load, rate: float) -> Raw:
    """Return the CPU time and the delivered events of a second at a steady rate of events."""
    settle, window = 2 * plan.warm, 1.5 * plan.window
    server.start(rate, settle + window + 0.2)
    time.sleep(settle)
    begin, cpu = load.snapshot(), server.cpu()
    time.sleep(window)
    end, cpu = load.snapshot(), server.cpu() - cpu
    server.wait_until_quiet()
    load.wait_until_drained()
    seconds = end["at"] - begin["at"]
    return {"cpu": cpu / seconds, "events": (end["events"] - begin["events"]) / seconds}


def rows(repetitions: list[Raw]) -> list[Row]:
    def spread(load: str) -> list[float]:
        return [max(raw[load].values()) / min(raw[load].values()) for raw in repetitions if raw[load]]

    measured = list(repetitions[0]["heavy"])
    return [
        Row(
            f"CPU per delivered event, {measured[0]} to {measured[-1]} viewers, most / least",
            spread("heavy"),
            at_most=1.5,
        ),
        Row("all CPU per delivered event with a tenth of the load, most / least", spread("light")),
        *(
            Row(
                f"CPU per delivered event, {viewers} viewers",
                [1e6 * raw["heavy"][viewers] for raw in repetitions],
                unit="µs",
            )
            for viewers in measured
        ),
    ]
