"""Reads messages for `bouncetap classify`: files, directories (sorted, recursive), mbox files, standard input.

An mbox is split at lines that begin with `From ` after an empty line (or at the start), `>From ` quoting undone, as
RFC 4155 describes; a single message that merely begins with a `From ` line is an mbox of one.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# The time is looked for ahead, which is never tried twice: a line of a thousand times must not be read a million times.
_SEPARATOR = re.compile(rb"^From (?=[^\r\n]*\d\d:\d\d)[^\r\n]*\r?\n", re.MULTILINE)
_EMPTY_LINE = (b"\n\n", b"\n\r\n")
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """One message: where it came from (`PATH`, `PATH:2` within an mbox, `-`) and its bytes."""

    name: str
    raw: bytes


def _raised(error: OSError) -> None:
    raise error


def messages(paths: Iterable[str], unread: Callable[[OSError], None] = _raised) -> Iterator[Source]:
    """Every message under `paths`; `unread` is told of each file and directory that cannot be read (else OSError)."""
    for path in paths:
        if path == "-":
            yield from _split("-", sys.stdin.buffer.read())
            continue
        for file in _files_in(path, unread) if Path(path).is_dir() else [path]:
            try:
                raw = Path(file).read_bytes()
            except OSError as error:
                unread(error)
                continue
            yield from _split(file, raw)


def _files_in(directory: str, unread: Callable[[OSError], None]) -> list[str]:
    found = [Path(at, name) for at, _, names in os.walk(directory, onerror=unread) for name in names]
    return [str(file) for file in sorted(found) if file.is_file()]


def _split(name: str, raw: bytes) -> Iterator[Source]:
    starts = [m for m in _SEPARATOR.finditer(raw) if m.start() == 0 or raw.endswith(_EMPTY_LINE, 0, m.start())]
    if not starts or starts[0].start() != 0:
        yield Source(name, raw)
        return
    for number, (start, following) in enumerate(zip(starts, [*starts[1:], None], strict=True), 1):
        body = raw[start.end() : following.start() if following else len(raw)]
        yield Source(f"{name}:{number}" if len(starts) > 1 else name, _QUOTED_FROM.sub(rb"\1", body))
