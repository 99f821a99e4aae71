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
from ._statistics import RelayStatistics

__all__ = ["PipeCollector"]


class PipeCollector(Collector):
    """Gives a pipe's account to the registry that it is registered with.

    ======================================  =========  ================================================
    ``vizpipe_events_emitted_total``        counter    calls of ``emit``
    ``vizpipe_events_dropped_total``        counter    by ``reason``: ``overload`` (the entrance was
                                                       full), ``ended`` (the pipe had ended)
    ``vizpipe_events_invalid_total``        counter    could not be encoded
    ``vizpipe_events_broadcast_total``      counter    offered to all clients of their time
    ``vizpipe_events_queued``               gauge      wait at the entrance
    ``vizpipe_events_capacity``             gauge      may wait there
    ``vizpipe_clients``                     gauge      connected now
    ``vizpipe_client_delivered_total``      counter    taken by clients, summed over all
    ``vizpipe_client_missed_total``         counter    lost by clients, summed over all, by ``reason``:
                                                       ``slow``, ``overload``, ``history``
    ``vizpipe_client_filtered_total``       counter    not asked for by clients, summed over all
    ``vizpipe_write_size_bytes``            histogram  writes of events to clients
    ``vizpipe_delivery_latency_seconds``    histogram  of each write: from when its oldest event was emitted
                                                       until the client's task took it
    ``vizpipe_running``                     gauge      1 while the dispatcher runs
    ======================================  =========  ================================================

    A latency is at most what is said, and may be a little less: while the pipe is busy no ``emit`` looks at
    the clock, so an event is taken to have come right behind the pipe's last look at its entrance.
    What the server and the network take is not in it; nor, for a relay's events, the way to here.

    And, if the pipe has a relay (see `vizpipe_trio.redis`):

    ======================================  =========  ================================================
    ``vizpipe_relay_connected``             gauge      1 while the server answers
    ``vizpipe_relay_connections_total``     counter    how often it was reached
    ``vizpipe_relay_offered_total``         counter    own events that were to be sent
    ``vizpipe_relay_sent_total``            counter    those that the server has
    ``vizpipe_relay_received_total``        counter    events of other workers that came
    ``vizpipe_relay_relayed_total``         counter    those that were offered to clients here
    ``vizpipe_relay_duplicates_total``      counter    those that had come before
    ``vizpipe_relay_lost_total``            counter    by ``direction``: ``out`` (too many waited for the
                                                       server), ``in`` (they did not come)
    ``vizpipe_relay_failed_total``          counter    came, and a fault in the pipe lost them
    ``vizpipe_relay_queued``                gauge      wait, by ``direction``
    ``vizpipe_relay_capacity``              gauge      may wait on the way out
    ``vizpipe_relay_ignored_total``         counter    messages, by ``reason``: ``malformed``,
                                                       ``other_version``
    ``vizpipe_relay_workers``               gauge      other workers that were heard of
    ======================================  =========  ================================================

    Args:
        pipe: The pipe.
        labels: Labels for all of them, such as ``{"pipe": "search"}``, for a process with several.
    """

    def __init__(self, pipe: Pipe, labels: Mapping[str, str] | None = None) -> None:
        self._pipe = pipe
        self._labels = dict(labels or {})

    def collect(self) -> Iterator[Metric]:
        """Read the account. Any thread."""
        account = self._pipe.statistics()
        yield self._counter("events_emitted", "Calls of emit.", account.emitted)
        yield self._by(
            CounterMetricFamily,
            "events_dropped",
            "Events refused at the pipe's entrance.",
            "reason",
            {"overload": account.dropped - account.refused, "ended": account.refused},
        )
        yield self._counter("events_invalid", "Events that could not be encoded.", account.invalid)
        yield self._counter("events_broadcast", "Events offered to all clients.", account.broadcast)
        yield self._gauge("events_queued", "Events that wait at the entrance.", account.queued)
        yield self._gauge("events_capacity", "Events that may wait at the entrance.", account.capacity)
        yield self._gauge("clients", "Clients that are connected.", account.clients)
        yield self._counter("client_delivered", "Events taken by clients.", account.delivered)
        yield self._by(
            CounterMetricFamily,
            "client_missed",
            "Events lost by clients.",
            "reason",
            {
                "slow": account.missed,
                "overload": account.missed_overload,
                "history": account.missed_history,
            },
        )
        yield self._counter("client_filtered", "Events that clients had not asked for.", account.filtered)
        yield self._histogram(
            "write_size_bytes",
            "Writes of events to clients.",
            account.write_sizes,
            SMALLEST_WRITE,
            account.written_bytes,
        )
        yield self._histogram(
            "delivery_latency_seconds",
            "From when a write's oldest event was emitted until its client took it.",
            account.latencies,
            SHORTEST_LATENCY,
            account.latency_seconds,
        )
        yield self._gauge("running", "Whether the dispatcher runs.", account.running)
        if account.relay is not None:
            yield from self._relay(account.relay)

    def _relay(self, account: RelayStatistics) -> Iterator[Metric]:
        yield self._gauge("relay_connected", "Whether the relay's server answers.", account.connected)
        yield self._counter(
            "relay_connections", "How often the relay's server was reached.", account.connections
        )
        yield self._counter("relay_offered", "Own events that were to be sent.", account.offered)
        yield self._counter("relay_sent", "Own events that the relay's server has.", account.sent)
        yield self._counter("relay_received", "Events of other workers that came.", account.received)
        yield self._counter("relay_relayed", "Events of other workers, offered to clients.", account.relayed)
        yield self._counter(
            "relay_duplicates", "Events of other workers that had come before.", account.duplicates
        )
        yield self._by(
            CounterMetricFamily,
            "relay_lost",
            "Events lost between workers.",
            "direction",
            {"out": account.lost_out, "in": account.lost_in},
        )
        yield self._counter("relay_failed", "Events of other workers lost by a fault here.", account.failed)
        yield self._by(
            GaugeMetricFamily,
            "relay_queued",
            "Events that wait on their way between workers.",
            "direction",
            {"out": account.queued_out, "in": account.queued_in},
        )
        yield self._gauge("relay_capacity", "Events that may wait for the relay's server.", account.capacity)
        yield self._by(
            CounterMetricFamily,
            "relay_ignored",
            "Messages that were ignored.",
            "reason",
            {"malformed": account.malformed, "other_version": account.other_version},
        )
        yield self._gauge("relay_workers", "Other workers that were heard of.", account.workers)

    def _counter(self, name: str, documentation: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vizpipe_{name}", documentation, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _by(
        self,
        kind: type[CounterMetricFamily | GaugeMetricFamily],
        name: str,
        documentation: str,
        label: str,
        values: Mapping[str, float],
    ) -> Metric:
        """Return what was counted by the values of a label."""
        family = kind(f"vizpipe_{name}", documentation, labels=[*self._labels, label])
        for value, figure in values.items():
            family.add_metric([*self._labels.values(), value], figure)
        return family

    def _gauge(self, name: str, documentation: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vizpipe_{name}", documentation, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _histogram(
        self, name: str, documentation: str, counts: Sequence[int], first_bound: float, total: float
    ) -> Metric:
        """Return what was counted in buckets of which each is twice as wide as the one before."""
        family = HistogramMetricFamily(f"vizpipe_{name}", documentation, labels=list(self._labels))
        bounds = [str(float(first_bound * 2**power)) for power in range(len(counts) - 1)]
        family.add_metric(
            list(self._labels.values()),
            buckets=list(zip([*bounds, "+Inf"], accumulate(counts), strict=True)),
            sum_value=total,
        )
        return family
