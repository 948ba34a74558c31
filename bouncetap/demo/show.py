"""The demo's course: set up, send, show, keep running."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from bouncetap.config import Config, load
from bouncetap.config.for_store import store_settings
from bouncetap.control import PARTS, Unreachable, ask
from bouncetap.demo.handler import StandInHandler
from bouncetap.demo.page import ACCOUNT, PASSWORD, progress, result, say, where_to_look
from bouncetap.demo.place import HOST, NoPlace, Ports, StateDir, take_state_dir
from bouncetap.demo.traffic import DOMAIN, Client, Sample, samples
from store.accounts import Accounts
from store.export import verdicts

START_TIMEOUT_S = 30.0
FILING_TIMEOUT_S = 60.0


def run_demo(wanted: Path, *, once: bool) -> int:
    """Runs the demo; the exit code."""
    os.umask(0o077)  # mail lies in its state directory, and others could rename what is in an open one
    try:
        state_dir = take_state_dir(wanted.absolute())
        ports = Ports.claim()
    except NoPlace as error:
        sys.exit(f"bouncetap: {error}")
    try:
        return asyncio.run(_demo(state_dir, ports, once=once))
    finally:
        ports.release()
        os.close(state_dir.lock)


async def _demo(state_dir: StateDir, ports: Ports, *, once: bool) -> int:
    traffic = samples()
    handler = StandInHandler()
    await handler.start(HOST, ports.handler)
    config = _configure(state_dir.path, ports)
    Accounts.open(store_settings(config)).add(ACCOUNT, PASSWORD, "admin")
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    tap, lifeline = await _start_tap(config, state_dir)
    show = asyncio.ensure_future(_show(config, ports, handler, traffic))
    died, stopped = asyncio.ensure_future(tap.wait()), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({show, died, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if show.done() and not once:
            if show.result() == 0:
                say("\n" + where_to_look(ports, state_dir.path))
            await asyncio.wait({died, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            say(f"\nthe tap ended with exit code {tap.returncode}: {_last_error(state_dir.path)}")
            return 1
        return show.result() if show.done() else 0
    finally:
        show.cancel()
        stopped.cancel()
        if tap.returncode is None:
            tap.terminate()
            say("\nstopping ...")
            await tap.wait()
        os.close(lifeline)
        await handler.stop()


async def _start_tap(config: Config, state_dir: StateDir) -> tuple[asyncio.subprocess.Process, int]:
    """`bouncetap run`, and the end of a pipe at whose closing it stops: however we end, it does not outlive us.

    It holds the state directory's lock too, so that no other demo empties that before it has stopped.
    """
    life, lifeline = os.pipe()
    command = ["--config", str(config.path), "run", "--supervisor-fd", str(life)]
    with (state_dir.path / "log.jsonl").open("ab") as log:
        tap = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "bouncetap", *command, pass_fds=(life, state_dir.lock),
            stderr=log, stdin=asyncio.subprocess.DEVNULL, start_new_session=True, env=_clean_environment(),
        )  # fmt: skip
    os.close(life)
    return tap, lifeline


def _clean_environment() -> dict[str, str]:
    """Without the operator's own BOUNCETAP_ settings: the demo's file is all that counts."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BOUNCETAP_")}


def _configure(state_dir: Path, ports: Ports) -> Config:
    path = state_dir / "bouncetap.toml"
    path.write_text(
        f"""\
state_dir = {json.dumps(str(state_dir), ensure_ascii=False)}
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


async def _show(config: Config, ports: Ports, handler: StandInHandler, traffic: list[Sample]) -> int:
    say(f"starting the tap, state in {config.state_dir} ...")
    if silent := await _silent_parts(config):
        say(f"no answer from {', '.join(silent)} within {START_TIMEOUT_S:.0f} s: {_last_error(config.state_dir)}")
        return 1
    say(f"sending {len(traffic)} messages to {HOST}:{ports.smtp} ...")
    replies: dict[str, str] = {}
    async with Client(HOST, ports.smtp) as client:
        for number, sample in enumerate(traffic, 1):
            replies[sample.name] = await client.send(sample)
            progress(number, len(traffic))
    say("waiting until they are in the quarantine ...")
    filed = await _filed(config, {sample.sha256 for sample in traffic})
    say("\n" + result(traffic, replies, handler, filed))
    missing = [sample.name for sample in traffic if sample.sha256 not in filed]
    if missing:
        say(f"not in the quarantine after {FILING_TIMEOUT_S:.0f} s: {', '.join(missing)}")
    return 1 if missing else 0


async def _silent_parts(config: Config) -> list[str]:
    """The parts that do not answer within START_TIMEOUT_S; none, as soon as all do."""
    silent = list(PARTS)
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while silent and asyncio.get_running_loop().time() < deadline:
        try:
            await ask(config.state_dir, silent[0], "status")
            silent.pop(0)
        except (Unreachable, ValueError):
            await asyncio.sleep(0.1)
    return silent


async def _filed(config: Config, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """The verdicts by SHA-256, once all are there or FILING_TIMEOUT_S has passed."""
    settings = store_settings(config)
    deadline = asyncio.get_running_loop().time() + FILING_TIMEOUT_S
    while True:
        found = {row["sha256"]: row for row in await asyncio.to_thread(lambda: list(verdicts(settings)))}
        if wanted <= found.keys() or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.2)


def _last_error(state_dir: Path) -> str:
    """What the tap's log says last that is wrong, and where the log is."""
    path = state_dir / "log.jsonl"
    errors = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            event = {"level": "error", "error": line}
        if event.get("level") == "error":
            errors.append(f"{event.get('part', '')} {event.get('error') or event.get('event')}".strip())
    return f"{errors[-1] if errors else 'it did not say why'} (its log: {path})"
