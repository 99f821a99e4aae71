"""A request that is being recorded: what it went through, until it becomes an event.

On the host's hot path from one end to the other. So a stage that ends only appends to a
deque, which is safe from any thread without a lock; nothing here is a generator; and
nothing raises what the host has not raised itself.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from threading import RLock
from time import perf_counter
from types import TracebackType
from typing import Literal, ParamSpec, Self, TypeVar, cast

import trio

from ._decorate import in_each_call
from ._event import Event, StageInfo

MOST_LAPS = 256
"""Ends of stages that are kept before they are summed up: a request may be one long loop."""

P = ParamSpec("P")
R = TypeVar("R")


class Stage:
    """One stage of a request while it runs: a ``with`` block whose time is added up.

    Made by `Recording.stage`, for one block. Time that is spent within it in stages made by its own
    `stage` is theirs and not its own, so that sequential stages never add up to more than their request.

    Attributes:
        name: The stage's name; of one within another, ``"outer/inner"``.
    """

    __slots__ = ("_began", "_hit", "_is_running", "_outer", "_recording", "name")

    def __init__(self, recording: "Recording", name: str, outer: "Stage | None" = None) -> None:
        self.name: str = name
        self._hit = False
        self._is_running = False
        self._recording = recording
        self._outer = outer

    @property
    def hit(self) -> bool:
        """Whether this stage answered the request. Set it at any time before the request ends."""
        return self._hit

    @hit.setter
    def hit(self, hit: bool) -> None:
        if hit:
            self._recording._hits.add(self.name)
        elif self._hit:
            self._recording._hits.discard(self.name)
        self._hit = hit

    def stage(self, name: str) -> "Stage":
        """Return a stage within this one, as `Recording.stage` does: for nested pipelines."""
        return Stage(self._recording, f"{self.name}/{name}", self)

    def __enter__(self) -> Self:
        times = self._recording._times
        if self.name not in times:
            times.setdefault(self.name, 0.0)
        self._is_running = True
        self._began = perf_counter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        passed = perf_counter() - self._began
        self._is_running = False
        laps = self._recording._laps
        laps.append((self.name, passed))
        if self._outer is not None and self._outer._is_running:
            laps.append((self._outer.name, -passed))
        if len(laps) > MOST_LAPS:
            self._recording._sum_up()


class Recording:
    """One request from its beginning to its end, when it becomes one event.

    Made by `Pipe.record`. Enter it when the request comes in; on leaving, also by an exception,
    the event is emitted. Set the attributes at any time in between. It may be used from any thread
    and across tasks; a stage that is still under way at the end is shown without its time.

    An exception leaves ``status`` as it is: that is policy's word, and an error is none of its
    decisions. It adds two labels instead, ``"error"`` and the exception's type, also where a nursery
    has put that one into a group. A cancelled request gets the label ``"cancelled"``. GeneratorExit is
    no error.

    Have no ``yield`` in the block: between two steps of a generator it would be the current recording
    of whoever iterates. Record there, round the loop.

    As a decorator, ``@pipe.record(...)``, it records each call of a function, sync or async, with
    the same beginnings; within, `current_recording` is the call's own.

    Attributes:
        request_id: The request's identity in the host's own logs.
        source: The part of the system that reports.
        op: What was asked for: ``"WRITE"`` or ``"QUERY"``.
        subject: What it was about.
        actor_type: Who asked: ``"user"``, ``"agent"`` or ``"system"``.
        status: What policy said; ``"ALLOWED"`` unless you set it.
        labels: Labels of the request.
        result_count: How many results were returned.
    """

    __slots__ = (
        "_began", "_emit", "_entered", "_event", "_hits", "_laps", "_lock", "_names", "_previous", "_times", "_timestamp",
        "actor_type", "labels", "op", "request_id", "result_count", "source", "status", "subject",
    )  # fmt: skip

    def __init__(
        self,
        emit: Callable[[Event], object],
        op: Literal["WRITE", "QUERY"],
        request_id: str,
        source: str,
        subject: str,
        actor_type: Literal["user", "agent", "system"],
        labels: Sequence[str],
        stages: Sequence[str],
    ) -> None:
        if isinstance(stages, str):
            raise TypeError(f"stages must be a sequence of names, not {stages!r}")
        self.request_id: str = request_id
        self.source: str = source
        self.op: Literal["WRITE", "QUERY"] = op
        self.subject: str = subject
        self.actor_type: Literal["user", "agent", "system"] = actor_type
        self.status: Literal["ALLOWED", "FILTERED", "DENIED"] = "ALLOWED"
        self.labels: Sequence[str] = with_labels(labels)  # its own: the host may put more into it
        self.result_count: int = 0
        self._emit = emit
        self._names = stages
        self._times: dict[str, float] = dict.fromkeys(stages, 0.0)  # seconds
        self._laps: deque[tuple[str, float]] = deque()
        self._hits: set[str] = set()
        # Reentrant, as the entrance's is: a finalizer may run, and record, in the middle.
        self._lock = RLock()
        self._entered = False
        self._event: Event | None = None

    def stage(self, name: str) -> Stage:
        """Return a stage to enter: ``with request.stage("cache") as stage``. No checkpoint.

        Stages are shown in the order in which they were named to `Pipe.record`, and behind those
        in the order in which they were first entered. One that is entered several times is shown
        once, with the sum.
        """
        return Stage(self, name)

    @property
    def event(self) -> Event:
        """The event that it has become.

        Raises:
            RuntimeError: It has not ended yet.
        """
        if self._event is None:
            raise RuntimeError("this request has not ended yet")
        return self._event

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a recording is for one request: call record() for each")
        self._entered = True
        self._previous = _latest_that_lasts(_current.get())
        _current.set(self)
        self._timestamp = datetime.now(UTC)
        self._began = perf_counter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        total_ms = (perf_counter() - self._began) * 1000
        # Kept, for contexts where this one stays current: a fixture or a generator may be left in another.
        self._previous = _latest_that_lasts(self._previous)
        if _current.get() is self:
            _current.set(self._previous)
        stages = self._sum_up()
        self._event = Event(
            self._timestamp,
            self.request_id,
            self.source,
            self.op,
            self.subject,
            self.actor_type,
            self.status,
            with_labels(self.labels, *_outcome(exc_value)),
            self.result_count,
            total_ms,
            stages if stages or self.op == "QUERY" else None,
        )
        self._emit(self._event)

    def _sum_up(self) -> list[StageInfo]:
        with self._lock:
            times, laps, hits = self._times, self._laps, self._hits
            while laps:
                name, seconds = laps.popleft()
                times[name] = times.get(name, 0.0) + seconds  # the host may have renamed it meanwhile
            # Less than nothing, if its parts ran at the same time.
            return [
                StageInfo(place, name, seconds * 1000 if seconds > 0 else 0.0, name in hits)
                # A copy is made in one step. A list is not on Python 3.11: the garbage collector may run
                # between its items, and with it a finalizer or another thread that enters a stage.
                for place, (name, seconds) in enumerate(times.copy().items(), 1)
            ]

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function, recorded each time that it is called.

        What would record calls that end before their work begins is refused, as far as can be seen
        here, since the host's own calls are no time to raise. Only a wrapper that does not name the
        async function in it, as ``functools.wraps`` would, is found out when it is called.

        Raises:
            TypeError: It is a generator function, or makes a context manager from one; or it is a
                plain wrapper of an async function.
        """
        return in_each_call(function, self._again)

    def _again(self) -> "Recording":
        return Recording(
            self._emit,
            self.op,
            self.request_id,
            self.source,
            self.subject,
            self.actor_type,
            self.labels,
            self._names,
        )


_current: ContextVar[Recording | None] = ContextVar("vizpipe_trio.current_recording", default=None)


def _latest_that_lasts(recording: Recording | None) -> Recording | None:
    """Return a recording or, if it has ended, the latest before it that has not."""
    while recording is not None and recording._event is not None:
        recording = recording._previous
    return recording


def current_recording() -> Recording:
    """Return the recording of the request that is being answered; no checkpoint.

    For code far below the place where the request comes in. Tasks started within a request and
    threads entered by ``trio.to_thread.run_sync`` have the same. Where there is none, as in a
    test of that code alone, or none that has not ended, it is one that goes nowhere.
    """
    recording = _latest_that_lasts(_current.get())
    if recording is None:
        return Recording(_nowhere, "QUERY", "", "", "", "user", (), ())
    return recording


def _nowhere(event: Event) -> None:
    pass


def with_labels(labels: Sequence[str], *more: str) -> Sequence[str]:
    """Return a list of labels and, where they are not in it already, more.

    What is no sequence of them stays as it is, for the pipe to refuse.
    """
    if isinstance(labels, str):
        return labels
    try:
        own = [*labels]
        return own + [label for label in more if label not in own] if more else own
    except Exception:  # this is in the middle of the host's own code
        return labels


def _outcome(error: BaseException | None) -> list[str]:
    # Somebody who has had enough of a generator makes no error.
    if error is None or isinstance(error, GeneratorExit):
        return []
    return ["cancelled"] if _is_cancelled(error) else ["error", type(_alone(error)).__name__]


def _alone(error: BaseException) -> BaseException:
    """Return what is in a group alone: a nursery makes a group of a single exception, too."""
    is_group = isinstance(error, BaseExceptionGroup)
    parts = cast("BaseExceptionGroup[BaseException]", error).exceptions if is_group else ()
    return _alone(parts[0]) if len(parts) == 1 else error


def _is_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(map(_is_cancelled, group.exceptions))
    return isinstance(error, trio.Cancelled)
