"""The worker process: prepares messages, one after the other, within bounds. `workers.py` is the other end.

It takes lists of jobs and answers each job by itself, so that the filer knows which message it was when this process
dies: killed by its own alarm after too long, by a crash in some library, or for want of memory.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import resource
import signal
import socket
import sys
from pathlib import Path

from store.wire import receive, send

MEMORY_LIMIT_BYTES = 1 << 30
GRACE_S = 5.0  # the filer's own patience ends first
GC_THRESHOLD = 20_000  # objects made and not yet dropped


def main() -> None:
    """Arguments: descriptor of the socket, seconds a message may take, the function as `module:name`."""
    link = socket.socket(fileno=int(sys.argv[1]))
    limit_s = float(sys.argv[2])
    module, _, name = sys.argv[3].partition(":")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is for the filer
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)  # forwarding comes first
    made = importlib.import_module(module)
    prepare = getattr(made, name)
    if hasattr(made, "warm_up"):
        made.warm_up()  # so that the first message does not pay for it
    collect_garbage_seldom()
    send(link, b"ready")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # from here on a traceback might quote a message
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            jobs = pickle.loads(receive(link))  # noqa: S301  # from the filer, over a socket nobody else has
            while jobs:
                # Without a handler SIGALRM ends the process, even in the middle of a C function.
                signal.setitimer(signal.ITIMER_REAL, limit_s + GRACE_S)
                answer = pickle.dumps(prepare(jobs.pop(0)))
                signal.setitimer(signal.ITIMER_REAL, 0)
                send(link, answer)
            send(link, b"%d" % rss_bytes())


def collect_garbage_seldom() -> None:
    """What is loaded stays, and need not be walked in every collection; what comes leaves hardly a cycle behind."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def rss_bytes() -> int:
    """Memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
