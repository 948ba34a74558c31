"""The demo's course: set up, send, show, keep running."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bouncetap.cli.options import table
from bouncetap.config import Config, load
from bouncetap.config.for_store import store_settings
from bouncetap.control import Unreachable, ask
from bouncetap.demo.handler import StandInHandler
from bouncetap.demo.traffic import DOMAIN, Client, Sample, samples
from store.accounts import Accounts
from store.export import verdicts

HOST = "127.0.0.1"
ACCOUNT = PASSWORD = "demo"  # noqa: S105  # it is printed: the demo listens on loopback only
MARKER = ".bouncetap-demo"
START_TIMEOUT_S = 30.0
FILING_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports in use: the usual ones, or free ones where those are taken."""

    smtp: int
    handler: int
    imap: int
    http: int


def run_demo(state_dir: Path, *, once: bool) -> int:
    """Runs the demo; the exit code."""
    state_dir = state_dir.absolute()
    _reset(state_dir)
    return asyncio.run(_demo(state_dir, once=once))


def _reset(state_dir: Path) -> None:
    """Removes an earlier demo's state, and nothing that is not one."""
    if state_dir.exists() and any(state_dir.iterdir()):
        if not (state_dir / MARKER).exists():
            sys.exit(f"bouncetap: {state_dir} is not an earlier demo's state; name another with --state")
        shutil.rmtree(state_dir)
    state_dir.mkdir(parents=True, mode=0o700, exist_ok=True)
    (state_dir / MARKER).touch()


def _port(usual: int) -> int:
    for port in (usual, 0):
        with contextlib.suppress(OSError), socket.create_server((HOST, port)) as listener:
            return int(listener.getsockname()[1])
    raise OSError(f"no free port on {HOST}")


async def _demo(state_dir: Path, *, once: bool) -> int:
    traffic = samples()
    handler = StandInHandler()
    ports = Ports(_port(2525), await handler.start(HOST, _port(2526)), _port(1143), _port(9025))
    config = _configure(state_dir, ports)
    Accounts.open(store_settings(config)).add(ACCOUNT, PASSWORD, "admin")
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    log = (state_dir / "log.jsonl").open("ab")
    tap = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bouncetap", "--config", str(config.path), "run",
        stderr=log, stdin=asyncio.subprocess.DEVNULL, start_new_session=True, env=_clean_environment(),
    )  # fmt: skip
    show = asyncio.ensure_future(_show(config, ports, handler, traffic))
    died, stopped = asyncio.ensure_future(tap.wait()), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({show, died, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if show.done() and not once:
            if show.result() == 0:
                _say(_where_to_look(ports, state_dir))
            await asyncio.wait({died, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            _say(f"\nthe tap ended with exit code {tap.returncode}; its log: {state_dir / 'log.jsonl'}")
            return 1
        return show.result() if show.done() else 0
    finally:
        show.cancel()
        stopped.cancel()
        if tap.returncode is None:
            tap.terminate()
            _say("\nstopping ...")
            await tap.wait()
        await handler.stop()
        log.close()


def _clean_environment() -> dict[str, str]:
    """Without the operator's own BOUNCETAP_ settings: the demo's file is all that counts."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BOUNCETAP_")}


def _configure(state_dir: Path, ports: Ports) -> Config:
    path = state_dir / "bouncetap.toml"
    path.write_text(
        f"""\
state_dir = "{state_dir}"
[proxy]
listen = ["{HOST}:{ports.smtp}"]
domains = ["{DOMAIN}"]
hostname = "tap.demo"
[legacy]
hosts = ["{HOST}:{ports.handler}"]
[journal]
reserve = "100MB"
[classifier]
verp = ["bounce+{{address}}@{DOMAIN}"]
unsubscribe_addresses = ["unsub-*@{DOMAIN}"]
sent_domains = ["example.com"]
[imap]
listen = ["{HOST}:{ports.imap}"]
[http]
listen = "{HOST}:{ports.http}"
""",
        encoding="utf-8",
    )
    return load(path, serving=True, environment={})


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _show(config: Config, ports: Ports, handler: StandInHandler, traffic: list[Sample]) -> int:
    _say("starting the tap ...")
    await _all_answer(config)
    _say(f"sending {len(traffic)} messages to {HOST}:{ports.smtp} ...")
    replies: dict[str, str] = {}
    async with Client(HOST, ports.smtp) as client:
        for number, sample in enumerate(traffic, 1):
            replies[sample.name] = await client.send(sample)
            if sys.stdout.isatty() or number % 20 == 0:
                sys.stdout.write(f"\r  {number}/{len(traffic)}")
                sys.stdout.flush()
    _say("\nwaiting until they are in the quarantine ...")
    filed = await _filed(config, {sample.sha256 for sample in traffic})
    _say("\n" + _table(traffic, replies, handler, filed) + "\n")
    missing = [s.name for s in traffic if s.sha256 not in filed]
    if missing:
        _say(f"not in the quarantine after {FILING_TIMEOUT_S:.0f} s: {', '.join(missing)}")
    return 1 if missing else 0


async def _all_answer(config: Config) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        for part in ("proxy", "filer", "imap"):
            while True:
                try:
                    await ask(config.state_dir, part, "status")
                    break
                except (Unreachable, ValueError):
                    await asyncio.sleep(0.1)


async def _filed(config: Config, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """The verdicts by SHA-256, once all are there or FILING_TIMEOUT_S has passed."""
    settings = store_settings(config)
    deadline = asyncio.get_running_loop().time() + FILING_TIMEOUT_S
    while True:
        found = {row["sha256"]: row for row in await asyncio.to_thread(lambda: list(verdicts(settings)))}
        if wanted <= found.keys() or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.2)


def _table(
    traffic: list[Sample], replies: dict[str, str], handler: StandInHandler, filed: dict[str, dict[str, Any]]
) -> str:
    arrived = Counter(digest for digest, _ in handler.received)
    rows = []
    for sample in traffic:
        verdict = filed.get(sample.sha256, {})
        recipients = verdict.get("recipients") or [{}]
        same = "identical" if arrived[hashlib.sha256(sample.wire).hexdigest()] else f"no: {replies[sample.name][:28]}"
        rows.append((sample.name[:44], same, verdict.get("kind", "-"), verdict.get("category") or "-",
                     recipients[0].get("reason") or "-", (recipients[0].get("address") or "-")[:36]))  # fmt: skip
    shown = table(rows, ["message", "at the handler", "kind", "category", "reason", "who"])
    total = f"{len(traffic)} sent, {len(handler.received)} at the handler, {len(filed)} in the quarantine"
    return f"{shown}\n\n{total}"


def _where_to_look(ports: Ports, state_dir: Path) -> str:
    return f"""\
It keeps running; Ctrl-C stops it. Look inside with any mail client:

  IMAP server {HOST}, port {ports.imap}, no encryption (loopback), user {ACCOUNT}, password {PASSWORD}
  Thunderbird: New Account > Configure manually: IMAP, {HOST}, {ports.imap}, Connection security None,
               Authentication "Password, transmitted insecurely", user {ACCOUNT}
  curl -u {ACCOUNT}:{PASSWORD} "imap://{HOST}:{ports.imap}/Bounces%2FHard;UID=1"

  send it a message of your own:  curl --mail-from '' --mail-rcpt return@{DOMAIN} -T FILE smtp://{HOST}:{ports.smtp}
  metrics and health:             curl http://{HOST}:{ports.http}/status
  the command line:               .venv/bin/bouncetap --config {state_dir / "bouncetap.toml"} status
  its log:                        {state_dir / "log.jsonl"}"""
