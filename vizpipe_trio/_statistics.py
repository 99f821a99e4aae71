"""The accounts of a pipe and of its relay: what became of the events. Plain values."""

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
        lost_out: Those that were lost on the way out: too many waited for the server, the connection
            broke with them, or the pipe ended.
        queued_out: Those that wait.
        capacity: How many may wait.
        received: Events of other workers that came.
        relayed: Those that were offered to clients here.
        duplicates: Those that had come before, or were taken for lost: what was under way when a
            connection broke can still arrive.
        failed: Those that a fault in the pipe lost. It is logged, and told as a gap.
        queued_in: Those that wait for the pipe.
        lost_in: Events of other workers that did not come, as far as it is known how many.
        unknown_in: Times that events of other workers may not have come, and it is not known how many.
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
    unknown_in: int
    malformed: int
    other_version: int
    workers: int


class PipeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a pipe's account.

    At any moment ``emitted == dropped + invalid + broadcast + queued``. The sums over
    clients include those that have left.

    Attributes:
        emitted: Calls of `Pipe.emit`, whatever became of the event.
        dropped: Events refused at the entrance: it was full, or the pipe had ended or been cancelled.
        invalid: Events that could not be encoded.
        broadcast: Own events offered to all clients of their time; other workers' are in ``relay.relayed``.
        queued: Events that wait at the entrance.
        capacity: How many may wait there.
        clients: Subscriptions and streams that are open now.
        delivered: Events taken by clients, summed over all.
        missed: Events lost by clients that were too slow, summed over all.
        filtered: Events that clients had not asked for, summed over all.
        refused: Those of the dropped that came when the pipe had ended, or been cancelled and not run again.
        missed_overload: Events dropped while a client was there, summed over all clients.
        missed_history: Events that the history no longer held for clients that came back, and those that
            a run which was cancelled, or a fault, kept from clients; summed over all, as far as it is known.
        missed_relay: Events of other workers that were lost on the way to here while a client was there,
            summed over all clients, as far as it is known.
        missed_unknown: Times that a client had lost nobody knows how many: what a relay could not count,
            or the history for an ID from before a restart or of another worker; summed over all.
        written_bytes: The bytes that clients took as writes of an event stream, comments and what was
            replayed left out.
        write_sizes: How many such writes there were, by size: of at most 256 bytes, 512, and so on
            to 262,144; the last are larger.
        latency_seconds: The sum of all writes' latencies: from when the oldest event in it was emitted, or a
            little before, until the client's task took it. What was emitted before `Pipe.run` counts
            from its beginning, and what a relay brought from when the pipe took it.
        latencies: How many writes of events there were, by latency: of at most 1 ms, 2 ms, 4 ms, and so
            on to 4,096 ms; the last waited longer. Those after the pipe's end are not timed.
        running: Whether `Pipe.run` is running.
        stopped: Whether the pipe has ended, for good.
        relay: The account of its relay, if it has one; see `vizpipe_trio.redis`.
    """

    emitted: int
    dropped: int
    invalid: int
    broadcast: int
    queued: int
    capacity: int
    clients: int
    delivered: int
    missed: int
    filtered: int
    refused: int
    missed_overload: int
    missed_history: int
    missed_relay: int
    missed_unknown: int
    written_bytes: float
    write_sizes: tuple[int, ...]
    latency_seconds: float
    latencies: tuple[int, ...]
    running: bool
    stopped: bool
    relay: RelayStatistics | None = None
