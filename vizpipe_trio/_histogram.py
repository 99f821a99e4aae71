"""How often values were how large, for a few numbers and one addition each."""

from math import ceil


class Histogram:
    """Counts values in buckets, of which each reaches twice as far as the one before.

    Args:
        first_bound: The largest value in the first bucket.
        buckets: How many buckets there are. The last takes all that is larger.

    Attributes:
        counts: How many values each bucket has.
        total: The sum of all values.
    """

    __slots__ = ("_first_bound", "counts", "total")

    def __init__(self, first_bound: float, buckets: int) -> None:
        self.counts: list[int] = [0] * buckets
        self.total: float = 0
        self._first_bound = first_bound

    def add(self, value: float) -> None:
        """Count a value that is not negative."""
        self.total += value
        bucket = max(ceil(value / self._first_bound) - 1, 0).bit_length()
        self.counts[min(bucket, len(self.counts) - 1)] += 1
