"""Control sockets and [http]: real sockets, a part of our own."""

from __future__ import annotations

import asyncio
import contextlib
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
        self.hosts: list[dict[str, Any]] = []
        self.reloads = 0

    def status(self) -> dict[str, Any]:
        return {"state": self.state, "hosts": self.hosts}

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


async def test_silent_connections_keep_nobody_out(tmp_path: Path) -> None:
    http = HttpServer("127.0.0.1:0", tmp_path)
    http.start()
    silent = [socket.create_connection(http.address) for _ in range(3 * CONNECTIONS)]
    silent[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: half of a request")
    try:
        assert await asyncio.to_thread(fetch, http, "/livez") == (200, "alive\n")
        silent[0].settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert silent[0].recv(1) == b""  # the oldest had to go
    finally:
        for connection in silent:
            connection.close()
        await asyncio.to_thread(http.stop)


async def test_a_silent_connection_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bouncetap.http.CONNECTION_S", 0.2)
    http = HttpServer("127.0.0.1:0", tmp_path)
    http.start()
    with socket.create_connection(http.address, timeout=30) as silent:
        silent.sendall(b"GET /livez HTTP/1.1\r\nHost: half of a request")
        assert await asyncio.to_thread(silent.recv, 1) == b""
    await asyncio.to_thread(http.stop)


async def test_status_stays_json_whatever_a_handler_says(tmp_path: Path) -> None:
    """Redacted value by value: an address at the end of a text must not take the quotation mark along."""
    said = ["450 <anna@b.example>", '421 "anna b"@b.example"', "anna@b.example\\", "anna@"]
    part = Part()
    part.hosts = [{"last_error": text, "open": 1} for text in said]
    server = await serving(tmp_path, part)
    http = HttpServer("127.0.0.1:0", tmp_path)
    http.start()
    try:
        body = (await asyncio.to_thread(fetch, http, "/status"))[1]
        assert len(json.loads(body)["proxy"]["hosts"]) == len(said)
        assert "anna@" not in body
    finally:
        await asyncio.to_thread(http.stop)
        await server.stop()
