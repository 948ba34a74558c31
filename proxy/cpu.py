"""Threads for work on large bodies, apart from those that wait for files.

A disk that hangs may hold every thread of the loop's own executor (replays, housekeeping); hashing and searching what
is on its way to the handler must not queue up behind them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

THREADS = 2

_executor = ThreadPoolExecutor(THREADS, thread_name_prefix="cpu")


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `function`, which must not wait for anything, in one of the threads."""
    return await asyncio.get_running_loop().run_in_executor(_executor, lambda: function(*args, **kwargs))
