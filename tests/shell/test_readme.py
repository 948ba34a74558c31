"""README and docs are true: what they tell to type is typed here, and every command they name exists as named."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bouncetap.cli import group
from bouncetap.config import Config, load
from tests.support.handler import Handler
from tests.support.tap import free_port, wait_for

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def block(section: str, holding: str) -> list[str]:
    """The indented lines of the code block in this section that holds these words."""
    _, _, rest = README.partition(f"\n## {section}\n")
    text = rest.partition("\n## ")[0]
    (found,) = [code for code in re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE) if holding in code]
    return [line[4:] for line in found.splitlines()]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """The demo, running, as `make run` leaves it."""
    state = tmp_path_factory.mktemp("readme") / "demo"
    log = state.with_name("said")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bouncetap", "demo", "--state", str(state)], stdout=out, cwd=ROOT
        )
    wait_for(lambda: "its log" in log.read_text(encoding="utf-8"), "the demo to be ready", 100)
    yield load(state / "bouncetap.toml", environment={})
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def shell(
    line: str, config: Config | None = None, cwd: Path = ROOT, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """The line as typed, but for the ports and the place of this demo, and the Python that runs this test."""
    line = line.replace(".venv/bin/bouncetap", shlex.join([sys.executable, "-m", "bouncetap"]))
    if config is not None:
        line = line.replace("var/demo/", f"{config.state_dir}/")
        for usual, option in (("2525", "proxy.listen"), ("1143", "imap.listen"), ("9025", "http.listen")):
            value = config[option] if isinstance(config[option], str) else config[option][0]
            line = line.replace(f"127.0.0.1:{usual}", value)
    return subprocess.run(["sh", "-c", line], input=stdin, capture_output=True, check=False, cwd=cwd, timeout=100)


@pytest.mark.system("curl")
def test_five_minutes_in_front_of_the_demo(demo: Config) -> None:
    send, *rest = block("Five minutes with it", "curl")
    assert shell(send, demo).returncode == 0
    fetch, status, export, metrics = rest
    wait_for(lambda: b"X-Bouncetap-Reason: mailbox_full" in shell(fetch, demo).stdout, "the bounce to be readable")
    assert b"imap    running" in shell(status, demo).stdout
    assert b"bad_mailbox" in shell(export, demo).stdout
    assert b"bouncetap_proxy_messages_total" in shell(metrics, demo).stdout


def test_five_minutes_with_the_classifier() -> None:
    explain, classify = block("Five minutes with it", "classify")
    assert b"bad_mailbox" in shell(explain).stdout
    assert {json.loads(line)["kind"] for line in shell(classify).stdout.splitlines()} == {"complaint"}


async def test_in_front_of_a_handler_of_ones_own(tmp_path: Path) -> None:
    handler = Handler()
    await handler.start()
    text = "\n".join(block("In front of your own handler", "[legacy]"))
    text = text.replace("0.0.0.0:25", f"127.0.0.1:{free_port()}").replace("192.0.2.10:25", handler.host)
    imap, http = free_port(), free_port()
    text += f'\n[imap]\nlisten = ["127.0.0.1:{imap}"]\n[http]\nlisten = "127.0.0.1:{http}"\n'
    (tmp_path / "bouncetap.toml").write_text(text, encoding="utf-8")
    check, account, run = block("In front of your own handler", "account add")
    done = await asyncio.to_thread(shell, check, None, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    done = await asyncio.to_thread(shell, f"{account} --password-stdin", None, tmp_path, b"secret\n")
    assert (done.returncode, done.stdout) == (0, b"alice: analyst\n")
    line = run.replace(".venv/bin/bouncetap", f"exec {sys.executable} -m bouncetap")
    tap = await asyncio.create_subprocess_shell(line, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
    assert tap.stderr is not None
    while b'"started"' not in await tap.stderr.readline():
        pass
    tap.terminate()
    await tap.communicate()
    assert tap.returncode == 0
    await handler.stop()


def named_commands(page: Path) -> list[str]:
    """What stands after `bouncetap` wherever a page shows a command."""
    text = page.read_text(encoding="utf-8").replace("sudo -u bouncetap ", "")
    named = re.findall(r"`bouncetap ([a-z][^`]*)`", text)
    lines = re.findall(r"^ {4}(?:.*/bin/)?bouncetap +(?:--config \S+ +)?([a-z].*)$", text, re.MULTILINE)
    return [*named, *(re.split(r" [#|&>]|  +", line)[0] for line in lines)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    for named in named_commands(page):
        words = re.sub(r"[\[\]]", "", named).split()
        command = group.get_command(click.Context(group), words[0])
        assert command is not None, named
        if isinstance(command, click.Group) and len(words) > 1:
            command = command.get_command(click.Context(command), words[1])
            assert command is not None, named
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known | {"--help"}, named
