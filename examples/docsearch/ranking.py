"""From what the stages found to what the client gets: two rankings made one, and the page cut from it."""

from collections.abc import Iterable, Sequence

from . import policy
from .answer import Result, Status
from .policy import ActorType

PAGE = 10  # results in an answer


def merged(*rankings: Sequence[Result]) -> list[Result]:
    """Return one ranking of many: a result counts 1 / (60 + rank) in each (reciprocal rank fusion)."""
    score: dict[int, float] = {}
    results: dict[int, Result] = {}
    for ranking in rankings:
        for rank, result in enumerate(ranking, start=1):
            score[result.slot] = score.get(result.slot, 0.0) + 1 / (60 + rank)
            results.setdefault(result.slot, result)
    return sorted(results.values(), key=lambda result: -score[result.slot])


def first_page(candidates: Iterable[Result], actor: ActorType) -> tuple[Status, tuple[Result, ...]]:
    """Return the first page of what ``actor`` may see, and whether anything before its end was left out."""
    page: list[Result] = []
    status: Status = "ALLOWED"
    for result in candidates:
        if policy.withheld(result.labels, actor):
            status = "FILTERED"
        else:
            page.append(result)
        if len(page) == PAGE:
            break
    return status, tuple(page)
