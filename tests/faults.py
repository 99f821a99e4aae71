"""How the tests put faults into our own code, and look at the account afterwards."""

from collections.abc import Callable
from typing import Any

import pytest

from vizpipe_trio import Pipe, Subscription


class Fault:
    """Has a function raise, so many times, and then do again what it always did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, where: str, times: int, error: BaseException) -> None:
        owner, _, name = where.rpartition(".")
        module, _, cls = owner.rpartition(".")
        target: Any = __import__(f"vizpipe_trio.{module or owner}", fromlist=["_"])
        self._target = getattr(target, cls) if module else target
        self._name = name
        self._original: Callable[..., Any] = getattr(self._target, name)
        self._error = error
        self.left = times
        monkeypatch.setattr(self._target, name, self._in_its_place())

    def _in_its_place(self) -> Callable[..., Any]:
        def broken(*args: Any, **kwargs: Any) -> Any:  # a function, so that it can be a method
            if self.left:
                self.left -= 1
                raise type(self._error)(*self._error.args)  # each with a traceback of its own
            return self._original(*args, **kwargs)

        return broken


def check_ledger(pipe: Pipe, *subscriptions: Subscription) -> None:
    now = pipe.statistics()
    assert now.emitted == now.dropped + now.invalid + now.broadcast + now.queued
    for one in subscriptions:
        assert one.offered == now.broadcast
        assert one.offered == one.delivered + one.missed + one.filtered + one.queued
