"""Who may ask what, and who may see what.

The rules of a made-up house for a real corpus: CPython's internals are for the system's own
requests only, and agents are kept from everything that runs code.
"""

from collections.abc import Iterable
from typing import Literal

from .words import words

ActorType = Literal["user", "agent", "system"]

# A query with one of these words is refused.
REFUSED: dict[ActorType, frozenset[str]] = {
    "user": frozenset({"exec", "eval"}),
    "agent": frozenset({"exec", "eval", "compile", "breakpoint", "pdb"}),
    "system": frozenset(),
}

# A document with one of these labels is left out of the results, and can't be written.
WITHHELD: dict[ActorType, frozenset[str]] = {
    "user": frozenset({"internals"}),
    "agent": frozenset({"internals", "debugger"}),
    "system": frozenset(),
}


def refusal(query: str, actor: ActorType) -> str | None:
    """Return why ``actor`` may not ask ``query``, or None if it may."""
    refused = sorted(REFUSED[actor].intersection(words(query)))
    return f"{refused[0]!r} is not for actors of type {actor!r}" if refused else None


def withheld(labels: Iterable[str], actor: ActorType) -> list[str]:
    """Return those of ``labels`` that keep a document from ``actor``, sorted; none if it may see it."""
    return sorted(WITHHELD[actor].intersection(labels))
