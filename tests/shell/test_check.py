"""`bouncetap check` asks as the proxy asks, TLS, login and client address as configured, and never sends a message."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.handler import RESET, Handler
from tests.support.tap import free_port


async def check(
    directory: Path, handler: Handler, legacy: str = "", *arguments: str
) -> subprocess.CompletedProcess[str]:
    path = directory / "bouncetap.toml"
    domains = '["bounces.example.com", "*.bücher.example"]'
    text = f'[proxy]\ndomains = {domains}\n[legacy]\nhosts = ["{handler.host}"]\n{legacy}'
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "bouncetap", "check", "--config", str(path), *arguments]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)


async def serve(**options: Any) -> Handler:
    handler = Handler(**options)
    await handler.start()
    return handler


async def test_a_handler_that_takes_everything(tmp_path: Path) -> None:
    handler = await serve()
    done = await check(tmp_path, handler)
    assert (done.returncode, done.stderr) == (0, "")
    assert "<bouncetap-check@bounces.example.com>: 250" in done.stdout
    assert "<bouncetap-check@check.xn--bcher-kva.example>: 250" in done.stdout
    assert "SIZE        100000000" in done.stdout
    assert not handler.attempts
    assert not [command for command in handler.commands if command.startswith(b"DATA")]
    await handler.stop()


async def test_tls_and_login_as_configured(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    (tmp_path / "password").write_text("secret\n", encoding="utf-8")
    handler = await serve(tls=context, login=("tap", "secret"))
    login = 'tls = "may"\nuser = "tap"\npassword_file = "password"\n'
    done = await check(tmp_path, handler, login)
    assert done.returncode == 0, done
    assert "speaks SMTP, logged in" in done.stdout
    assert "STARTTLS    in use" in done.stdout
    assert f"! legacy.password_file = {tmp_path}/password: every user of this machine" in done.stdout
    (tmp_path / "password").chmod(0o600)
    assert "every user of this machine" not in (await check(tmp_path, handler, login)).stdout
    (tmp_path / "password").write_text("wrong\n", encoding="utf-8")
    assert (await check(tmp_path, handler, login)).returncode == 1
    done = await check(tmp_path, handler, login.replace("may", "verify"))
    assert done.returncode == 1
    assert "certificate" in done.stdout.lower()
    await handler.stop()


@pytest.mark.parametrize(
    ("script", "shown"),
    [({"rcpt": b"550 5.1.1 no\r\n"}, "550 5.1.1 no   <-- refused"),
     ({"mail": b"530 login first\r\n"}, "530 login first"),
     ({"greeting": b"554 go away\r\n"}, "go away"), ({"rcpt": RESET}, "")],
    ids=["rcpt", "mail", "greeting", "reset"],
)  # fmt: skip
async def test_a_handler_that_would_not_take_a_bounce(tmp_path: Path, script: dict[str, Any], shown: str) -> None:
    handler = await serve(script=script)
    done = await check(tmp_path, handler)
    assert done.returncode == 1
    assert shown in done.stdout
    assert "no handler would take a bounce" in done.stdout
    assert "Traceback" not in done.stderr
    await handler.stop()


async def test_a_handler_that_knows_single_addresses_only(tmp_path: Path) -> None:
    handler = await serve(rcpts={b"bouncetap-check": b"550 5.1.1 who?\r\n"})
    assert "--to ADDRESS" in (await check(tmp_path, handler)).stdout
    assert (await check(tmp_path, handler, "", "--to", "return@bounces.example.com")).returncode == 0
    done = await check(tmp_path, handler, 'client_address = "xclient"\n', "--to", "return@bounces.example.com")
    assert "offers no XCLIENT" in done.stdout
    await handler.stop()


async def test_nobody_there(tmp_path: Path) -> None:
    done = await check(tmp_path, Handler(port=free_port()))
    assert done.returncode == 1
    assert "Connection refused" in done.stdout
    assert "--to" not in done.stdout  # another address would not help


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: what root must not do was left untested")
async def test_root_writes_nothing_into_another_users_state(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    os.chown(tmp_path / "var", 65534, 65534)
    await check(tmp_path, Handler(port=free_port()))  # writes the configuration, and is allowed
    for command in (["account", "list"], ["export"], ["expire"], ["run"], ["proxy"]):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "bouncetap", *command],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert b"belongs to nobody: run this as that user" in done.stderr
    assert not list((tmp_path / "var").iterdir())
