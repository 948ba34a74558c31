"""A pipe whose write end only the parent has: its child stops, in an orderly way, when the parent is gone.

End of file comes however the parent ended, by SIGKILL too, and is not lost to a race as a signal at its death can be.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


def stop_with_parent(descriptor: int, stop: Callable[[], object]) -> None:
    """Calls `stop` on the running loop once `descriptor`, the read end, is at its end."""
    loop = asyncio.get_running_loop()

    def look() -> None:
        if not os.read(descriptor, 1):
            loop.remove_reader(descriptor)
            stop()

    loop.add_reader(descriptor, look)
