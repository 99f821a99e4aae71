"""What a delivered event costs the server, from ten viewers to five thousand.

The same number of events arrive in each run, 100,000 a second in all: 10,000 to each of ten
viewers, 20 to each of five thousand. So what differs is over how many viewers they are spread,
which is the question. At the same rate for each viewer the server of ten would be idle but for
its timers, and that of five thousand be asked for five hundred times as much; a CPU time per
event would compare these, and not the cost of viewers. Everything is in the figure: making
the events, encoding them, and whatever the server does meanwhile.
"""

import time
from typing import Any

from benchmarks import peers
from benchmarks.plan import Plan
from benchmarks.processes import Load
from benchmarks.rows import Row

DELIVERED_RATE = 100_000
VIEWERS = (10, 100, 1000, 5000)

Raw = dict[str, Any]


def measure(plan: Plan, _: list[Raw]) -> Raw:
    raw: Raw = {}
    with peers.ours() as server, Load(server) as load:
        server.get("/counts")
        connected = 0
        for viewers in VIEWERS:
            if viewers > plan.most_viewers:
                break
            load.connect(viewers - connected)
            connected = viewers
            settle = 2 * plan.warm
            server.start(DELIVERED_RATE / viewers, settle + plan.window + 0.2)
            time.sleep(settle)
            begin, cpu = load.snapshot(), server.cpu()
            time.sleep(plan.window)
            end, cpu = load.snapshot(), server.cpu() - cpu
            server.wait_until_quiet()
            load.wait_until_drained()
            events = end["events"] - begin["events"]
            raw[str(viewers)] = {
                "delivered": events / (end["at"] - begin["at"]),
                "cpu_an_event": cpu / events if events else float("inf"),
            }
    return raw


def rows(repetitions: list[Raw]) -> list[Row]:
    measured = [viewers for viewers in VIEWERS if str(viewers) in repetitions[0]]
    costs = [[raw[str(viewers)]["cpu_an_event"] for viewers in measured] for raw in repetitions]
    return [
        Row(
            f"CPU per delivered event, 10 to {measured[-1]} viewers, most / least",
            [max(each) / min(each) for each in costs],
            at_most=1.5,
        ),
        *(
            Row(
                f"CPU per delivered event, {viewers} viewers",
                [1e6 * each[index] for each in costs],
                unit="µs",
            )
            for index, viewers in enumerate(measured)
        ),
    ]
