"""Methods of the async API as blocking ones: the same signature and documentation, run to their end in this thread."""

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from dreamforge.client.transport import run_now

P = ParamSpec("P")
T = TypeVar("T")
Api = TypeVar("Api")


class Blocking(Generic[Api]):
    """Has an object of the async API whose session is over the blocking transport."""

    def __init__(self, api: Api) -> None:
        self._api = api


def blocking(
    method: Callable[Concatenate[Api, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[Api], P], T]:
    """The blocking form of a coroutine method."""

    @functools.wraps(method)
    def call(self: Blocking[Api], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_now(method(self._api, *args, **kwargs))

    return call


def iterating(
    method: Callable[Concatenate[Api, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Blocking[Api], P], Iterator[T]]:
    """The blocking form of a method that gives one item after the other."""

    @functools.wraps(method)
    def call(self: Blocking[Api], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return items_of(method(self._api, *args, **kwargs))

    return call


def items_of(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """Each item when it is asked for; the generator is closed at the end, however that comes."""
    try:
        while True:
            try:
                item = run_now(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_now(items.aclose())
