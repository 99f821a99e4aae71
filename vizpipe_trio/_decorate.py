"""The decorator form of a block: a function that has each of its calls in one, sync or async."""

import inspect
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

_PLAIN_WRAPPER = (
    "{!r} returns a coroutine, which only begins when it is awaited: "
    "decorate the async function itself, below its wrapper, or have the wrapper be async"
)

P = ParamSpec("P")
R = TypeVar("R")


def in_each_call(
    function: Callable[P, R], block: Callable[[], AbstractContextManager[object]]
) -> Callable[P, R]:
    """Return the function with each of its calls, from beginning to end, in a block of its own.

    Raises:
        TypeError: Its calls end before their work begins.
    """
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def task(*args: P.args, **kwargs: P.kwargs) -> Any:
            with block():
                return await function(*args, **kwargs)

        return cast("Callable[P, R]", task)

    innermost = inspect.unwrap(function)
    if inspect.isgeneratorfunction(innermost) or inspect.isasyncgenfunction(innermost):
        raise TypeError(
            f"{function!r} only begins when its result is used: "
            "have `with pipe.record(...)` round the loop or block that uses it"
        )
    if inspect.iscoroutinefunction(innermost):
        raise TypeError(_PLAIN_WRAPPER.format(function))

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with block():
            result = function(*args, **kwargs)
            if isinstance(result, Coroutine):
                result.close()
                raise TypeError(_PLAIN_WRAPPER.format(function))
            return result

    return call
