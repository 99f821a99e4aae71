"""Events as lines and tables for a terminal."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import cycle

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ._batch import Missed
from ._event import Event, StageInfo

BAR = 24
"""Cells of a line's stage bar."""

WINDOW_SECONDS = 10.0
LONG_MS = 1e6
"""What is longer is shown by its power of ten, so that it fits its place."""

MOST_EVENTS = 10_000
"""What a board looks back on at most."""

_STATUS_STYLES = {"ALLOWED": "green", "FILTERED": "yellow", "DENIED": "bold red"}
_STAGE_STYLES = ("cyan", "magenta", "blue", "yellow", "green", "bright_black")


def plain(text: str) -> str:
    """Return text that does nothing to a terminal: it comes from whoever made the request."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def event_line(event: Event) -> Text:
    """Return an event in one line, with a bar of its stages and the one that answered."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{_local(event.timestamp):%H:%M:%S} ", "dim")
    line.append(f"{event.status:<8} ", _STATUS_STYLES[event.status])
    line.append(f"{event.op:<5} {event.actor_type:<6} ")
    line.append(f"{_number(event.total_ms, ''):>9} ms ", "bold")
    line.append_text(stage_bar(event.stages or ()))
    answered = "+".join(stage.name for stage in event.stages or () if stage.hit)
    line.append(f" {plain(answered) or '-':<10} ", "bold")
    line.append(plain(event.subject))
    for label in event.labels:
        line.append(f" {plain(label)}", "dim")
    return line


def missed_line(missed: Missed) -> Text:
    """Return a gap in one line."""
    count = "an unknown number of" if missed.count is None else f"{missed.count}"
    return Text(f"-------- {count} events missed here: {missed.reason}", "bold yellow")


def stage_bar(stages: Sequence[StageInfo], width: int = BAR) -> Text:
    """Return a bar that is shared by the stages as the time was."""
    bar = Text()
    # Any number may come. As parts of the longest time, no sum of them is too large.
    longest = max((stage.ms for stage in stages), default=0.0)
    parts = [max(stage.ms, 0.0) / longest if longest > 0 else 0.0 for stage in stages]
    total = sum(parts) or 1.0
    passed, drawn = 0.0, 0
    for stage, part, style in zip(stages, parts, cycle(_STAGE_STYLES)):
        passed += part
        end = round(width * passed / total)
        bar.append(("█" if stage.hit else "▒") * (end - drawn), style)
        drawn = end
    return bar.append("·" * (width - drawn), "dim")


def _local(moment: datetime) -> datetime:
    try:
        return moment.astimezone()
    except (OverflowError, ValueError, OSError):  # in the first or last day that there is
        return moment


def _number(value: float, grouping: str = ",") -> str:
    return f"{value:{grouping}.2f}" if abs(value) < LONG_MS else f"{value:.2e}"


class Board:
    """What happened of late, for `vizpipe top`: rates, latencies, stages. Bounded in time and number."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, Event]] = deque(maxlen=MOST_EVENTS)
        self._missed: Counter[str] = Counter()
        self._uncounted: set[str] = set()
        self._total = 0
        self._since: float | None = None

    def add(self, given: Event | Missed, now: float) -> None:
        """Take note of what came."""
        if isinstance(given, Missed):
            self._missed[given.reason] += given.count or 0
            if given.count is None:
                self._uncounted.add(given.reason)
            return
        self._since = now if self._since is None else self._since
        self._total += 1
        self._events.append((now, given))

    def render(self, now: float, title: str, trouble: str | None = None) -> RenderableType:
        """Return the board as it stands, under what is wrong with its source if anything is."""
        full = len(self._events) == MOST_EVENTS
        while self._events and self._events[0][0] < now - WINDOW_SECONDS:
            self._events.popleft()
        events = [event for _, event in self._events]
        begin = self._events[0][0] if full and self._events else self._since
        seconds = min(max(now - (now if begin is None else begin), 1.0), WINDOW_SECONDS)
        statuses = Counter[str](event.status for event in events)
        head = Text(overflow="ellipsis", no_wrap=True)
        if trouble:
            head.append(f"{plain(trouble)}\n", "bold red")
        head.append(f"{len(events) / seconds:,.1f} events/s  {self._total:,} in all  ", "bold")
        head.append(plain(title))
        outcomes = Text(overflow="ellipsis", no_wrap=True)
        for status, style in _STATUS_STYLES.items():
            outcomes.append(f"{status} {statuses[status]:,}  ", style if statuses[status] else "dim")
        for reason, count in self._missed.items():
            more = " and more" if reason in self._uncounted else ""
            outcomes.append(f"missed ({reason}) {count:,}{more}  ", "bold yellow")
        return Group(head, outcomes, _totals(events), _stages(events))


def _totals(events: Sequence[Event]) -> Table:
    table = Table(box=box.SIMPLE, header_style="dim")
    table.add_column("request")
    for name in ("count", "p50 ms", "p95 ms", "max ms"):
        table.add_column(name, justify="right")
    times: dict[str, list[float]] = {}
    for event in events:
        times.setdefault(f"{event.op} {event.source}".strip(), []).append(event.total_ms)
    for name in sorted(times):
        table.add_row(Text(plain(name)), f"{len(times[name]):,}", *_quantiles(times[name]))
    return table


def _stages(events: Iterable[Event]) -> Table:
    table = Table(box=box.SIMPLE, header_style="dim")
    table.add_column("stage")
    for name in ("entered", "answered", "p50 ms", "p95 ms", "max ms", "of all time"):
        table.add_column(name, justify="right")
    times: dict[str, list[float]] = {}
    hits: Counter[str] = Counter()
    requests = 0
    for event in events:
        requests += event.stages is not None
        for stage in event.stages or ():
            entered = times.setdefault(stage.name, [])
            hits[stage.name] += stage.hit
            if stage.ms > 0:
                entered.append(stage.ms)
    spent = sum(map(sum, times.values())) or 1.0
    for name, entered in times.items():
        table.add_row(
            Text(plain(name)),
            f"{len(entered) / requests:.0%}",
            f"{hits[name] / requests:.0%}",
            *_quantiles(entered),
            f"{sum(entered) / spent:.0%}",
        )
    return table


def _quantiles(values: Iterable[float]) -> list[str]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return [_number(ordered[round(last * share)]) for share in (0.5, 0.95, 1.0)] if ordered else ["-"] * 3
