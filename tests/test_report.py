"""Faults in the log: by kind, at a bounded rate, with what is needed to find them."""

import logging

import pytest

from vizpipe_trio._report import FaultReport


def test_faults_are_logged_by_kind_at_most_once_an_interval(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    report = FaultReport(logging.getLogger("tests"), lambda: now, interval=10.0)
    report.note("a filter failed", KeyError("a"))
    report.flush()
    for name in ("b", "c"):
        report.note("a filter failed", KeyError(name))
        report.flush()
    assert caplog.messages == ["1 times: a filter failed; the latest: KeyError('a')"]
    now += 10
    report.flush()
    assert caplog.messages[1:] == ["2 times: a filter failed; the latest: KeyError('c')"]


def test_a_fault_of_our_own_is_logged_as_an_error_with_the_first_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    report = FaultReport(logging.getLogger("tests"), lambda: 100.0, interval=10.0)
    for number in (1, 2, 3):
        report.note_own("it failed", ValueError(f"number {number}"))
    report.flush()
    [(_, level, text)] = caplog.record_tuples
    assert (level, text) == (logging.ERROR, "3 times: it failed; the first:\nValueError: number 1\n")
