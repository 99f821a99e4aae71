"""What is found, what is answered, and what the pipe is told of it. Plain values."""

from dataclasses import dataclass
from typing import Literal

from vizpipe_trio import Event

from .stages import Stage

Status = Literal["ALLOWED", "FILTERED", "DENIED"]


@dataclass(frozen=True, slots=True)
class Result:
    """A document that was found, and the piece of it that is shown. The slot is its place in the stores."""

    slot: int
    title: str
    snippet: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request, the stage that gave it, and the reason if it is a refusal."""

    stage: Stage
    status: Status
    results: tuple[Result, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer for the client, and the event for the pipe."""

    answer: Answer
    event: Event
