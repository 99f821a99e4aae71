"""Quantiles by rank: each is a value that was measured, none is interpolated."""

import math
from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return the median, p99, maximum and number of some values, or None for no values."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "median": quantile(ordered, 0.5),
        "p99": quantile(ordered, 0.99),
        "max": ordered[-1],
    }
