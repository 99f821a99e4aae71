"""A row of the table: a figure, its spread, its target, and what came of it."""

import math
from dataclasses import dataclass
from statistics import median
from typing import Literal

Verdict = Literal["pass", "FAIL", "not measured", ""]


@dataclass
class Row:
    """One figure, measured several times.

    Attributes:
        name: What is measured.
        samples: One value for each repetition; none if it could not be measured.
        unit: What the values are in; ``x`` for a ratio.
        at_most: The target, if it is an upper limit.
        at_least: The target, if it is a lower limit.
        judge: Whether the median decides, or the worst repetition.
    """

    name: str
    samples: list[float]
    unit: str = "x"
    at_most: float | None = None
    at_least: float | None = None
    judge: Literal["median", "worst"] = "median"

    @property
    def figure(self) -> float:
        """The value that is judged."""
        if self.judge == "median":
            return median(self.samples)
        return max(self.samples) if self.at_least is None else min(self.samples)

    @property
    def verdict(self) -> Verdict:
        """What came of it; nothing for a row that has no target."""
        if self.at_most is None and self.at_least is None:
            return "" if self.samples else "not measured"
        if not self.samples:
            return "not measured"
        # Written so that a NaN fails.
        met = (self.at_most is None or self.figure <= self.at_most) and (
            self.at_least is None or self.figure >= self.at_least
        )
        return "pass" if met else "FAIL"

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_most is not None:
            return "none" if self.at_most == 0 else f"<= {self.at_most:g} {self.unit}".rstrip()
        if self.at_least is not None:
            return f">= {self.at_least:g} {self.unit}".rstrip()
        return "reported"


def format_value(value: float, unit: str) -> str:
    """Return a value with three digits that mean something, or all of a whole number."""
    digits = 0 if value == int(value) else max(2 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{digits}f} {unit}".rstrip()
