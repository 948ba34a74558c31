"""A `prepare` for the worker process that dies of certain messages, in every way there is."""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from store.prepare import Job, Prepared
from tests.support import light_prepare


def prepare(job: Job) -> Prepared:
    match job.original.strip():
        case b"CRASH":
            ctypes.string_at(0)
        case b"HANG":
            time.sleep(3600)
        case b"BLOAT":
            bytes(4 << 30)
        case b"EXIT":
            os._exit(0)
        case b"ONCE":
            flag = Path(tempfile.gettempdir()) / f"bouncetap-once-{os.getppid()}"
            if not flag.exists():
                flag.touch()
                os._exit(1)
            flag.unlink()
        case _:
            pass
    return replace(light_prepare.prepare(job), unparsable=False)
