"""Control sockets and [http]: real sockets, a part of our own."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from bouncetap.control import ControlServer, Unreachable, ask, socket_path
from bouncetap.http import CONNECTIONS, HttpServer


class Part:
    def __init__(self) -> None:
        self.state = "running"
        self.reloads = 0

    def status(self) -> dict[str, Any]:
        return {"state": self.state}

    async def command(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        if name == "fail":
            raise ValueError("no such message")
        return {"name": name, **args}

    async def reload(self) -> dict[str, Any]:
        self.reloads += 1
        return {"needs_restart": []}


async def serving(state_dir: Path, part: Part) -> ControlServer:
    server = ControlServer(part, socket_path(state_dir, "proxy"), part.reload)
    await server.start()
    return server


async def test_a_command_its_answer_and_its_refusal(tmp_path: Path) -> None:
    part = Part()
    server = await serving(tmp_path, part)
    assert await ask(tmp_path, "proxy", "spool_drop", id="01X") == {"name": "spool_drop", "id": "01X"}
    assert (await ask(tmp_path, "proxy", "status"))["state"] == "running"
    assert "python" in await ask(tmp_path, "proxy", "metrics")
    await ask(tmp_path, "proxy", "reload")
    assert part.reloads == 1
    with pytest.raises(ValueError, match="no such message"):
        await ask(tmp_path, "proxy", "fail")
    await server.stop()
    with pytest.raises(Unreachable):
        await ask(tmp_path, "proxy", "status")


async def test_the_socket_is_the_owners_alone(tmp_path: Path) -> None:
    server = await serving(tmp_path, Part())
    path = socket_path(tmp_path, "proxy")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await server.stop()


async def test_a_state_directory_with_a_long_name(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    server = await serving(deep, Part())
    assert (await ask(deep, "proxy", "status"))["state"] == "running"
    await server.stop()


async def test_garbage_and_silence_do_not_hurt(tmp_path: Path) -> None:
    server = await serving(tmp_path, Part())
    path = str(socket_path(tmp_path, "proxy"))
    for garbage in (b"\n", b"{}\n", b"[1]\n", b'{"command": 3}\n', b"x" * (1 << 21), b""):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(garbage)
        writer.write_eof()
        try:
            answer = await asyncio.wait_for(reader.readline(), 5)
        except ConnectionError:
            answer = b""
        assert not answer or "error" in json.loads(answer) or "ok" in json.loads(answer)
        writer.close()
    assert (await ask(tmp_path, "proxy", "status"))["state"] == "running"
    await server.stop()


def fetch(http: HttpServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{http.address[0]}:{http.address[1]}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_health_and_metrics(tmp_path: Path) -> None:
    part = Part()
    server = await serving(tmp_path, part)
    http = HttpServer("127.0.0.1:0", tmp_path)
    http.start()
    try:
        assert await asyncio.to_thread(fetch, http, "/livez") == (200, "alive\n")
        assert (await asyncio.to_thread(fetch, http, "/readyz"))[0] == 200  # filer and imap are not there: no matter
        metrics = (await asyncio.to_thread(fetch, http, "/metrics"))[1]
        assert 'bouncetap_up{part="proxy"} 1' in metrics
        assert 'bouncetap_up{part="filer"} 0' in metrics
        status = json.loads((await asyncio.to_thread(fetch, http, "/status"))[1])
        assert status["proxy"]["running"]
        assert not status["imap"]["running"]
        part.state = "paused"
        assert (await asyncio.to_thread(fetch, http, "/readyz"))[0] == 503
        assert (await asyncio.to_thread(fetch, http, "/nowhere"))[0] == 404
    finally:
        await asyncio.to_thread(http.stop)
        await server.stop()


async def test_silent_connections_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bouncetap.http.CONNECTION_S", 0.5)
    http = HttpServer("127.0.0.1:0", tmp_path)
    http.start()
    silent = [socket.create_connection(http.address) for _ in range(CONNECTIONS + 10)]
    silent[0].sendall(b"GET /livez HTTP/1.1\r\nHost: half of a request")
    try:
        while (await asyncio.to_thread(fetch, http, "/livez"))[0] != 200:  # noqa: ASYNC110  # the other side's time
            await asyncio.sleep(0.05)
    finally:
        for connection in silent:
            connection.close()
        await asyncio.to_thread(http.stop)
