"""A pipe's account for Prometheus::

    from prometheus_client import REGISTRY
    from vizpipe_trio.prometheus import PipeCollector

    REGISTRY.register(PipeCollector(pipe))

Nothing is counted for it on the way: it reads `Pipe.statistics` when somebody scrapes, so it costs
nothing when nobody does. ``docs/grafana.json`` is a dashboard for Grafana.

With several workers each has a pipe and a registry of its own, and must be scraped by itself: what
prometheus_client shares between processes are its own metrics, and not what a collector reads.

Needs the extra ``prometheus``: ``pip install 'vizpipe-trio[prometheus]'``.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as _missing:
    raise ImportError(
        "vizpipe_trio.prometheus needs prometheus_client: pip install 'vizpipe-trio[prometheus]'"
    ) from _missing

from ._client import SHORTEST_LATENCY, SMALLEST_WRITE
from ._pipe import Pipe
from ._statistics import PipeStatistics, RelayStatistics

__all__ = ["PipeCollector"]


class PipeCollector(Collector):
    """Gives a pipe's account to the registry that it is registered with.

    ========================================  =========  ================================================
    ``vizpipe_events_emitted_total``          counter    calls of ``emit``
    ``vizpipe_events_dropped_total``          counter    by ``reason``: ``overload`` (the entrance was
                                                         full), ``ended`` (the pipe had ended)
    ``vizpipe_events_invalid_total``          counter    could not be encoded
    ``vizpipe_events_broadcast_total``        counter    own ones, offered to all clients of their time
    ``vizpipe_events_queued``                 gauge      wait at the entrance
    ``vizpipe_events_capacity``               gauge      may wait there
    ``vizpipe_clients``                       gauge      connected now
    ``vizpipe_client_delivered_total``        counter    taken by clients, summed over all
    ``vizpipe_client_missed_total``           counter    lost by clients, summed over all, by ``reason``:
                                                         ``slow``, ``overload``, ``history``, ``relay``
    ``vizpipe_client_missed_unknown_total``   counter    times that one had lost nobody knows how many
    ``vizpipe_client_filtered_total``         counter    not asked for by clients, summed over all
    ``vizpipe_write_size_bytes``              histogram  writes of events to clients
    ``vizpipe_delivery_latency_seconds``      histogram  of each write: from when its oldest event was emitted
                                                         until the client's task took it
    ``vizpipe_running``                       gauge      1 while the dispatcher runs
    ========================================  =========  ================================================

    A latency is at most what is said, and may be a little less: while the pipe is busy no ``emit`` looks at
    the clock, so an event is taken to have come right behind the pipe's last look at its entrance.
    What the server and the network take is not in it; nor, for a relay's events, the way to here.

    And, of a pipe that has a relay (see `vizpipe_trio.redis`):

    ======================================  =========  ================================================
    ``vizpipe_relay_connected``             gauge      1 while the server answers
    ``vizpipe_relay_connections_total``     counter    how often it was reached
    ``vizpipe_relay_offered_total``         counter    own events that were to be sent
    ``vizpipe_relay_sent_total``            counter    those that the server has
    ``vizpipe_relay_received_total``        counter    events of other workers that came
    ``vizpipe_relay_relayed_total``         counter    those that were offered to clients here
    ``vizpipe_relay_duplicates_total``      counter    those that had come before
    ``vizpipe_relay_lost_total``            counter    by ``direction``: ``out`` (own events that others
                                                       do not get), ``in`` (others' that did not come)
    ``vizpipe_relay_lost_unknown_total``    counter    times that others' may not have come, and it is
                                                       not known how many
    ``vizpipe_relay_failed_total``          counter    came, and a fault in the pipe lost them
    ``vizpipe_relay_queued``                gauge      wait, by ``direction``
    ``vizpipe_relay_capacity``              gauge      may wait on the way out
    ``vizpipe_relay_ignored_total``         counter    messages, by ``reason``: ``malformed``,
                                                       ``other_version``
    ``vizpipe_relay_workers``               gauge      other workers that were heard of
    ======================================  =========  ================================================

    Args:
        pipe: The pipe; or several by name, ``{"search": pipe, "memory": other}``, which the label
            ``pipe`` then tells apart.
    """

    def __init__(self, pipe: Pipe | Mapping[str, Pipe]) -> None:
        self._pipes = {"": pipe} if isinstance(pipe, Pipe) else dict(pipe)

    def collect(self) -> Iterator[Metric]:
        """Read the account. Any thread."""
        collected: dict[str, Metric] = {}
        for name, pipe in self._pipes.items():
            for family in _families(pipe.statistics()):
                if name:
                    family.samples = [
                        sample._replace(labels={"pipe": name, **sample.labels}) for sample in family.samples
                    ]
                # One family for all pipes, or its type would be told twice.
                if family.name in collected:
                    collected[family.name].samples += family.samples
                else:
                    collected[family.name] = family
        yield from collected.values()


def _families(account: PipeStatistics) -> Iterator[Metric]:
    yield _counter("events_emitted", "Calls of emit.", account.emitted)
    yield _counter(
        "events_dropped",
        "Events refused at the pipe's entrance.",
        {"overload": account.dropped - account.refused, "ended": account.refused},
    )
    yield _counter("events_invalid", "Events that could not be encoded.", account.invalid)
    yield _counter("events_broadcast", "Own events offered to all clients.", account.broadcast)
    yield _gauge("events_queued", "Events that wait at the entrance.", account.queued)
    yield _gauge("events_capacity", "Events that may wait at the entrance.", account.capacity)
    yield _gauge("clients", "Clients that are connected.", account.clients)
    yield _counter("client_delivered", "Events taken by clients.", account.delivered)
    yield _counter(
        "client_missed",
        "Events lost by clients.",
        {
            "slow": account.missed,
            "overload": account.missed_overload,
            "history": account.missed_history,
            "relay": account.missed_relay,
        },
    )
    yield _counter(
        "client_missed_unknown", "Times that a client had lost nobody knows how many.", account.missed_unknown
    )
    yield _counter("client_filtered", "Events that clients had not asked for.", account.filtered)
    yield _histogram(
        "write_size_bytes",
        "Writes of events to clients.",
        account.write_sizes,
        SMALLEST_WRITE,
        account.written_bytes,
    )
    yield _histogram(
        "delivery_latency_seconds",
        "From when a write's oldest event was emitted until its client took it.",
        account.latencies,
        SHORTEST_LATENCY,
        account.latency_seconds,
    )
    yield _gauge("running", "Whether the dispatcher runs.", account.running)
    if account.relay is not None:
        yield from _relay_families(account.relay)


def _relay_families(account: RelayStatistics) -> Iterator[Metric]:
    yield _gauge("relay_connected", "Whether the relay's server answers.", account.connected)
    yield _counter("relay_connections", "How often the relay's server was reached.", account.connections)
    yield _counter("relay_offered", "Own events that were to be sent.", account.offered)
    yield _counter("relay_sent", "Own events that the relay's server has.", account.sent)
    yield _counter("relay_received", "Events of other workers that came.", account.received)
    yield _counter("relay_relayed", "Events of other workers, offered to clients.", account.relayed)
    yield _counter("relay_duplicates", "Events of other workers that had come before.", account.duplicates)
    yield _counter(
        "relay_lost",
        "Events lost between workers.",
        {"out": account.lost_out, "in": account.lost_in},
        label="direction",
    )
    yield _counter(
        "relay_lost_unknown",
        "Times that events of other workers may not have come, nobody knows how many.",
        account.unknown_in,
    )
    yield _counter("relay_failed", "Events of other workers lost by a fault here.", account.failed)
    yield _gauge(
        "relay_queued",
        "Events that wait on their way between workers.",
        {"out": account.queued_out, "in": account.queued_in},
        label="direction",
    )
    yield _gauge("relay_capacity", "Events that may wait for the relay's server.", account.capacity)
    yield _counter(
        "relay_ignored",
        "Messages that were ignored.",
        {"malformed": account.malformed, "other_version": account.other_version},
    )
    yield _gauge("relay_workers", "Other workers that were heard of.", account.workers)


def _family(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    documentation: str,
    figures: float | Mapping[str, float],
    label: str = "reason",
) -> Metric:
    """Return a family of one figure, or of several by the values of a label."""
    if not isinstance(figures, Mapping):
        return kind(f"vizpipe_{name}", documentation, value=figures)
    family = kind(f"vizpipe_{name}", documentation, labels=[label])
    for value, figure in figures.items():
        family.add_metric([value], figure)
    return family


_counter = partial(_family, CounterMetricFamily)
_gauge = partial(_family, GaugeMetricFamily)


def _histogram(
    name: str, documentation: str, counts: Sequence[int], first_bound: float, total: float
) -> Metric:
    """Return what was counted in buckets of which each is twice as wide as the one before."""
    bounds = [str(float(first_bound * 2**power)) for power in range(len(counts) - 1)]
    buckets = list(zip([*bounds, "+Inf"], accumulate(counts), strict=True))
    return HistogramMetricFamily(f"vizpipe_{name}", documentation, buckets=buckets, sum_value=total)
