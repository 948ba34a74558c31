"""Power loss: the writes and fsyncs of a journal recorded, and the disk as any prefix of them may leave it.

`RecordingFiles` does everything for real and writes it down; `image` makes the files of a crash.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.journal.files import Files
from tests.support.journal import Event


@dataclass(frozen=True)
class Op:
    """One recorded operation: `node` is a file's or a directory's number, `args` as the kind needs them."""

    kind: str
    node: int
    args: tuple[object, ...] = ()


class RecordingFiles(Files):
    """Does everything for real and writes it down. Paths are kept relative to `root`, which exists from the start."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log: list[Op | Event] = []
        self._nodes: dict[Path, int] = {root: 0}
        self._next = 1
        self._fds: dict[int, int] = {}

    def _node(self, path: Path) -> int:
        if path not in self._nodes:
            self._nodes[path] = self._next
            self._next += 1
        return self._nodes[path]

    def open(self, path: Path, flags: int) -> int:
        existed = path.exists()
        fd = super().open(path, flags)
        if not existed:
            self._nodes.pop(path, None)
            self.log.append(Op("create", self._node(path.parent), (path.name, self._node(path))))
        elif flags & os.O_TRUNC:
            self.log.append(Op("truncate", self._node(path), (0,)))
        self._fds[fd] = self._node(path)
        return fd

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self.log.append(Op("write", self._fds[fd], (offset, bytes(data))))
        return super().pwrite(fd, data, offset)

    def pwritev(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        self.log.append(Op("write", self._fds[fd], (offset, b"".join(buffers))))
        return super().pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        super().fdatasync(fd)
        self.log.append(Op("sync", self._fds[fd]))

    def fallocate(self, fd: int, size_bytes: int) -> None:
        self.log.append(Op("extend", self._fds[fd], (size_bytes,)))
        super().fallocate(fd, size_bytes)

    def ftruncate(self, fd: int, size_bytes: int) -> None:
        self.log.append(Op("truncate", self._fds[fd], (size_bytes,)))
        super().ftruncate(fd, size_bytes)

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        self.log.append(Op("mkdir", self._node(path.parent), (path.name, self._node(path))))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.log.append(Op("rename", self._node(source.parent), (source.name, target.name)))
        self._nodes.pop(target, None)
        for path in list(self._nodes):
            if path == source or source in path.parents:
                self._nodes[target / path.relative_to(source)] = self._nodes.pop(path)

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.log.append(Op("unlink", self._node(path.parent), (path.name,)))
        self._nodes.pop(path, None)

    def rmdir(self, path: Path) -> None:
        super().rmdir(path)
        self.log.append(Op("unlink", self._node(path.parent), (path.name,)))
        self._nodes.pop(path, None)

    def sync_dir(self, path: Path) -> None:
        super().sync_dir(path)
        self.log.append(Op("sync", self._node(path)))


def image(log: Sequence[Op | Event], root: Path, keep: Callable[[Op], Op | None]) -> None:
    """What the disk may hold if the power went after `log`: what was synced, and of the rest what `keep` lets by.

    `keep` gets each operation that no later fsync of its file or directory covers, and gives it back, or a part of
    a write, or None. Names are as strict as POSIX: an fsync of a file says nothing about its name.
    """
    last_sync: dict[int, int] = {}
    for position, op in enumerate(log):
        if isinstance(op, Op) and op.kind == "sync":
            last_sync[op.node] = position
    contents: dict[int, bytearray] = {}
    names: dict[int, dict[str, int]] = {0: {}}
    for position, item in enumerate(log):
        if not isinstance(item, Op) or item.kind == "sync":
            continue
        kept = item if last_sync.get(item.node, -1) > position else keep(item)
        if kept is not None:
            _apply(kept, contents, names)

    def build(node: int, path: Path) -> None:
        path.mkdir(exist_ok=True)
        for name, child in names[node].items():
            if child in names:
                build(child, path / name)
            else:
                (path / name).write_bytes(contents.get(child, bytearray()))

    build(0, root)


def _apply(op: Op, contents: dict[int, bytearray], names: dict[int, dict[str, int]]) -> None:
    args: tuple = op.args  # type: ignore[type-arg]
    directory = names.setdefault(op.node, {}) if op.kind in {"create", "mkdir", "rename", "unlink"} else {}
    match op.kind:
        case "create":
            directory[args[0]] = args[1]
            contents.setdefault(args[1], bytearray())
        case "mkdir":
            directory[args[0]] = args[1]
            names.setdefault(args[1], {})
        case "rename":
            if args[0] in directory:
                directory[args[1]] = directory.pop(args[0])
        case "unlink":
            directory.pop(args[0], None)
        case "write":
            data = contents.setdefault(op.node, bytearray())
            data.extend(bytes(max(0, args[0] - len(data))))
            data[args[0] : args[0] + len(args[1])] = args[1]
        case "extend":
            data = contents.setdefault(op.node, bytearray())
            data.extend(bytes(max(0, args[0] - len(data))))
        case "truncate":
            data = contents.setdefault(op.node, bytearray())
            del data[args[0] :]
            data.extend(bytes(args[0] - len(data)))
