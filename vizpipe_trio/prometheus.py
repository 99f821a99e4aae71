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

from ._client import SMALLEST_WRITE
from ._dispatcher import SHORTEST_ROUND
from ._pipe import Pipe

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
    ``vizpipe_round_seconds``               histogram  from when events are taken from the entrance until
                                                       every client was offered them
    ``vizpipe_running``                     gauge      1 while the dispatcher runs
    ======================================  =========  ================================================

    A round is the part of an event's latency that grows with the number of clients. What an event
    waits at the entrance, commonly less than the pipe's ``flush_interval``, is not in it: that
    would take a look at the clock in each ``emit``.

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
        yield self._counter_by_reason(
            "events_dropped",
            "Events refused at the pipe's entrance.",
            {"overload": account.dropped - account.refused, "ended": account.refused},
        )
        yield self._counter("events_invalid", "Events that could not be encoded.", account.invalid)
        yield self._counter("events_broadcast", "Events offered to all clients.", account.broadcast)
        yield self._gauge("events_queued", "Events that wait at the entrance.", account.queued)
        yield self._gauge("events_capacity", "Events that may wait at the entrance.", account.capacity)
        yield self._gauge("clients", "Clients that are connected.", account.clients)
        yield self._counter("client_delivered", "Events taken by clients.", account.delivered)
        yield self._counter_by_reason(
            "client_missed",
            "Events lost by clients.",
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
            "round_seconds",
            "From when events are taken until every client was offered them.",
            account.round_times,
            SHORTEST_ROUND,
            account.round_seconds,
        )
        yield self._gauge("running", "Whether the dispatcher runs.", account.running)

    def _counter(self, name: str, documentation: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vizpipe_{name}", documentation, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _counter_by_reason(self, name: str, documentation: str, values: Mapping[str, float]) -> Metric:
        family = CounterMetricFamily(f"vizpipe_{name}", documentation, labels=[*self._labels, "reason"])
        for reason, value in values.items():
            family.add_metric([*self._labels.values(), reason], value)
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
