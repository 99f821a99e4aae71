"""The picture of an application that is traced already, without new code in it::

    from opentelemetry.sdk.trace import TracerProvider
    from vizpipe_trio.opentelemetry import PipeSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(PipeSpanProcessor(pipe))

Each root span becomes an event when it ends, and its children the stages.

Needs the extra ``opentelemetry``: ``pip install 'vizpipe-trio[opentelemetry]'``.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from threading import RLock
from typing import Any

try:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
    from opentelemetry.trace import SpanContext, StatusCode
except ImportError as _missing:
    raise ImportError(
        "vizpipe_trio.opentelemetry needs OpenTelemetry's SDK: pip install 'vizpipe-trio[opentelemetry]'"
    ) from _missing

from ._event import Event, StageInfo
from ._pipe import Pipe
from ._sse import MAX_STAGES
from .asgi import READS, REFUSALS

__all__ = ["PipeSpanProcessor"]

MOST_OPEN = 10_000
"""Requests that are under way at most. A root span that never ends would stay for ever."""


class PipeSpanProcessor(SpanProcessor):
    """Turns a finished root span and its children into an event.

    A root is a span without a parent, or with one in another process. Its direct children that
    have ended are the stages, in the order in which they began; those of one name are summed up.
    What the spans say by their attributes goes before what can be guessed:

    ========================  ===================================================================
    ``vizpipe.request_id``    else the trace's ID
    ``vizpipe.source``        else the resource's ``service.name``
    ``vizpipe.op``            else ``"WRITE"`` for an HTTP method that changes something
    ``vizpipe.subject``       else the span's name
    ``vizpipe.actor_type``    else ``"user"``
    ``vizpipe.status``        else ``"DENIED"`` for the HTTP statuses 401 and 403, or ``"ALLOWED"``
    ``vizpipe.labels``        and ``"error"``, with the ``error.type``, if the span has an error
    ``vizpipe.result_count``
    ``vizpipe.hit``           of a child: whether this stage answered
    ========================  ===================================================================

    It sees the spans that are recorded, as all are that are sampled. Nothing blocks, and nothing is
    raised: an event with an attribute of the wrong type is counted as invalid by the pipe.

    Args:
        pipe: Where the events go.
        select: Says of a root span that has ended whether it is a request; all are by default.

    Attributes:
        forgotten: Root spans that became no event, because 10,000 younger ones were under way, or they
            had more stages than an event can have; and, as the pipe's log says, because ``select``
            raised, or a time of theirs or of a stage does not exist.
    """

    def __init__(self, pipe: Pipe, select: Callable[[ReadableSpan], bool] | None = None) -> None:
        self.forgotten: int = 0
        self._pipe = pipe
        self._select = select
        self._lock = RLock()  # spans begin and end in any thread
        self._open: dict[_Key, _Stages] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Begin a request, if it is a root."""
        if _is_root(span):
            with self._lock:
                self._open[_key(span.context)] = {}
                if len(self._open) > MOST_OPEN:
                    self._forget(next(iter(self._open)))

    def on_end(self, span: ReadableSpan) -> None:
        """Emit a request, if it is a root; or add a stage to one, if it is a child."""
        is_root = _is_root(span)
        request = _key(span.context if is_root else span.parent)
        try:
            if is_root:
                self._emit(span, request)
            else:
                self._add_stage(span, request)
        except Exception as error:  # this is in the middle of the host's own code
            with self._lock:
                self._forget(request)
            self._pipe._note("a root span became no event", error)

    def _emit(self, span: ReadableSpan, request: "_Key") -> None:
        with self._lock:
            stages = self._open.pop(request, None)
        if stages is not None and (self._select is None or self._select(span)):
            self._pipe.emit(_event(span, stages))

    def _add_stage(self, span: ReadableSpan, request: "_Key") -> None:
        with self._lock:
            stages = self._open.get(request)
            if stages is not None:
                began, ms, hit = stages.get(span.name, (span.start_time or 0, 0.0, False))
                hit = hit or bool((span.attributes or {}).get("vizpipe.hit"))
                stages[span.name] = (min(began, span.start_time or 0), ms + _milliseconds(span), hit)
                if len(stages) > MAX_STAGES:
                    self._forget(request)

    def _forget(self, request: "_Key") -> None:
        self._open.pop(request, None)
        self.forgotten += 1


_Key = tuple[int, int]
_Stages = dict[str, tuple[int, float, bool]]  # by name: when it began, milliseconds, hit


def _key(context: SpanContext | None) -> _Key:
    return (context.trace_id, context.span_id) if context is not None else (0, 0)


def _is_root(span: ReadableSpan) -> bool:
    return span.parent is None or span.parent.is_remote


def _event(span: ReadableSpan, children: _Stages) -> Event:
    attributes: Mapping[str, Any] = span.attributes or {}
    resource: Mapping[str, Any] = span.resource.attributes
    op = attributes.get("vizpipe.op") or _op(attributes)
    in_order = sorted(children.items(), key=lambda child: child[1][0])
    stages = [StageInfo(place, name, ms, hit) for place, (name, (_, ms, hit)) in enumerate(in_order, 1)]
    labels = [*_sequence(attributes.get("vizpipe.labels", ()))]
    if span.status.status_code is StatusCode.ERROR:
        labels += ["error", *([attributes["error.type"]] if "error.type" in attributes else [])]
    return Event(
        timestamp=datetime.fromtimestamp((span.start_time or 0) / 1e9, UTC),
        request_id=attributes.get("vizpipe.request_id") or f"{_key(span.context)[0]:032x}",
        source=attributes.get("vizpipe.source") or resource.get("service.name", ""),
        op=op,
        subject=attributes.get("vizpipe.subject") or span.name,
        actor_type=attributes.get("vizpipe.actor_type", "user"),
        status=attributes.get("vizpipe.status") or _status(attributes),
        labels=labels,
        result_count=attributes.get("vizpipe.result_count", 0),
        total_ms=_milliseconds(span),
        stages=stages if stages or op == "QUERY" else None,
    )


def _sequence(value: Any) -> Any:
    return (value,) if isinstance(value, str | int | float) else value


def _op(attributes: Mapping[str, Any]) -> Any:
    method = attributes.get("http.request.method") or attributes.get("http.method") or "GET"
    return "QUERY" if method in READS else "WRITE"


def _status(attributes: Mapping[str, Any]) -> Any:
    code = attributes.get("http.response.status_code") or attributes.get("http.status_code")
    return "DENIED" if code in REFUSALS else "ALLOWED"


def _milliseconds(span: ReadableSpan) -> float:
    return max((span.end_time or 0) - (span.start_time or 0), 0) / 1e6
