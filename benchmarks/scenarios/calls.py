"""What `emit` and `record` cost the code that calls them. The measurement itself is in ``micro.py``."""

from statistics import median
from typing import Any

from benchmarks.machine import SERVER_CORE
from benchmarks.plan import Plan
from benchmarks.processes import Child, python_module
from benchmarks.rows import Row

Raw = dict[str, list[float]]


def measure(plan: Plan, _: list[Raw]) -> Raw:
    with Child("micro", python_module("micro", str(plan.bursts)), SERVER_CORE) as child:
        figures: Any = child.hear()
    return dict(figures)


def rows(repetitions: list[Raw]) -> list[Row]:
    def ratios(ours: str, bare: str) -> list[float]:
        return [median(raw[ours]) / median(raw[bare]) for raw in repetitions]

    def nanoseconds(name: str) -> list[float]:
        return [median(raw[name]) for raw in repetitions]

    return [
        Row("emit, accepted, in the Trio thread / send_nowait", ratios("emit", "send"), at_most=1.4),
        Row("emit, dropped / send_nowait that raises", ratios("emit dropped", "send refused"), at_most=1.4),
        Row("emit, from a worker thread / send_nowait", ratios("emit in thread", "send"), at_most=3),
        Row(
            "emit, from a worker thread, waits for the interpreter included / send_nowait",
            ratios("emit in thread, waits included", "send"),
        ),
        Row("emit that wakes a sleeping dispatcher / send_nowait", ratios("emit asleep", "send asleep")),
        Row("emit, accepted", nanoseconds("emit"), unit="ns"),
        Row("a request with six stages, recorded / timed by hand", ratios("recorded", "timed by hand")),
        Row("a request with six stages, recorded", nanoseconds("recorded"), unit="ns"),
    ]
