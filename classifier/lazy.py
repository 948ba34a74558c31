"""`lazy`: an attribute that is found out when it is first asked for, then kept.

`functools.cached_property` does the same, but takes a lock at every first access until Python 3.12; with a dozen such
attributes a message that was 1 % of a verdict. Two threads that ask at once both find it out, to the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801  # used like `property`
    """Decorates a method of a class whose instances have a `__dict__`: there the value shadows the method."""

    def __init__(self, method: Callable[[Any], T]) -> None:
        self._method = method
        self._name = method.__name__
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> lazy[T] | T:
        """Called at the first access only; the class itself gives the attribute, as it does a property."""
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._method(instance)
        return value
