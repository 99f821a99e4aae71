"""A bounded cache: what was asked for least recently goes first."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """A mapping that never holds more than ``capacity`` answers."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._answers: OrderedDict[K, V] = OrderedDict()

    def find(self, key: K) -> V | None:
        """Return the answer kept for ``key``, and keep it longer; None if there is none."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def keep(self, key: K, answer: V) -> None:
        """Keep ``answer`` for ``key``, and let the oldest go if that is one too many."""
        self._answers[key] = answer
        self._answers.move_to_end(key)
        if len(self._answers) > self._capacity:
            self._answers.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()

    def __len__(self) -> int:
        return len(self._answers)
