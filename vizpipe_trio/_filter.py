"""The filter that a viewer asks for in the query string."""

from collections.abc import Iterable
from typing import get_args, get_type_hints

import msgspec

from ._event import Event
from ._request import RequestError


class FilterError(RequestError):
    """A filter that does not exist."""

    def __init__(self, message: str, allowed: Iterable[str]) -> None:
        super().__init__(400, message, allowed=allowed)


_hints = get_type_hints(Event)
_VALUES: dict[str, frozenset[str] | None] = {
    "op": frozenset(get_args(_hints["op"])),
    "status": frozenset(get_args(_hints["status"])),
    "actor_type": frozenset(get_args(_hints["actor_type"])),
    "source": None,
    "label": None,
}


class FieldFilter(msgspec.Struct, frozen=True):
    """Lets an event through when, for each name asked for, one of its values fits.

    Call it with an event. Equal filters are equal and hash alike, so that clients
    which ask for the same share the work.
    """

    op: frozenset[str] = frozenset()
    status: frozenset[str] = frozenset()
    actor_type: frozenset[str] = frozenset()
    source: frozenset[str] = frozenset()
    label: frozenset[str] = frozenset()

    def __call__(self, event: Event) -> bool:
        return (
            (not self.op or event.op in self.op)
            and (not self.status or event.status in self.status)
            and (not self.actor_type or event.actor_type in self.actor_type)
            and (not self.source or event.source in self.source)
            and (not self.label or not self.label.isdisjoint(event.labels))
        )


def parse_filter(query: Iterable[tuple[str, str]]) -> FieldFilter | None:
    """Return the filter that name and value pairs ask for, or None for all events.

    Raises:
        FilterError: A name or a value that there is none of.
    """
    chosen: dict[str, set[str]] = {}
    for name, value in query:
        if name not in _VALUES:
            raise FilterError(f"there is no filter {name!r}", _VALUES)
        allowed = _VALUES[name]
        if allowed is not None and value not in allowed:
            raise FilterError(f"there is no {name} {value!r}", allowed)
        chosen.setdefault(name, set()).add(value)
    if not chosen:
        return None
    return FieldFilter(**{name: frozenset(values) for name, values in chosen.items()})
