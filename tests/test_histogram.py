"""Counting values by their size."""

from vizpipe_trio._histogram import Histogram


def test_each_bucket_reaches_twice_as_far_as_the_one_before_its_bound_included() -> None:
    histogram = Histogram(256, 5)
    for value in (0, 1, 256, 257, 512, 513, 1024, 1025, 2048, 2049, 10**9):
        histogram.add(value)
    assert histogram.counts == [3, 2, 2, 2, 2]
    assert histogram.total == 1_000_007_685


def test_values_may_be_fractions() -> None:
    histogram = Histogram(0.001, 4)
    for value in (0.0, 0.0005, 0.001, 0.0015, 0.002, 0.003, 5.0):
        histogram.add(value)
    assert histogram.counts == [3, 2, 1, 1]
