"""A relay's account: what became of events on their way between workers. A plain value."""

import msgspec


class RelayStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a relay's account.

    At any moment ``offered == sent + lost_out + queued_out``, which is every event that
    the pipe has broadcast of its own; and
    ``received == relayed + duplicates + failed + queued_in``.

    Attributes:
        connected: Whether the server answers.
        connections: How often it was reached.
        fault: Why it is not connected; empty while it is.
        offered: Own events that were to be sent.
        sent: Those that the server has.
        lost_out: Those that were lost on the way out: too many waited for the server.
        queued_out: Those that wait.
        capacity: How many may wait.
        received: Events of other workers that came.
        relayed: Those that were offered to clients here.
        duplicates: Those that had come before: a worker sends again what was not confirmed.
        failed: Those that a fault in the pipe lost. It is logged, and told as a gap.
        queued_in: Those that wait for the pipe.
        lost_in: Events of other workers that did not come, as far as it is known how many.
        malformed: Messages that were none of ours, and ignored.
        other_version: Messages of another version, and ignored.
        workers: Other workers that were heard of.
    """

    connected: bool
    connections: int
    fault: str
    offered: int
    sent: int
    lost_out: int
    queued_out: int
    capacity: int
    received: int
    relayed: int
    duplicates: int
    failed: int
    queued_in: int
    lost_in: int
    malformed: int
    other_version: int
    workers: int
