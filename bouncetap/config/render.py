"""The configuration written out: the reference page, the full sample, and `bouncetap config show`.

A test holds `docs/configuration.md` and `etc/bouncetap.full.toml` against this module, so that they cannot age:
`python -m bouncetap.config.render` writes both anew.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bouncetap.config.load import Config
from bouncetap.config.options import OPTIONS, SECTIONS, Option
from bouncetap.config.values import DURATION, POSITIVE_DURATION, POSITIVE_SIZE, SIZE, format_duration, format_size


def _by_section() -> Iterator[tuple[str, list[Option]]]:
    for section in SECTIONS:
        yield section, [option for option in OPTIONS if option.section == section]


def reference() -> str:
    """docs/configuration.md."""
    lines = ["# Configuration", "",
             "One TOML file; every key is optional but `[proxy] domains` and `[legacy] hosts`; an unknown key is an error, and",
             "`bouncetap config check` lists all errors at once. The file is the first of `--config FILE`, `$BOUNCETAP_CONFIG`,",
             "`./bouncetap.toml`, `/etc/bouncetap/bouncetap.toml`. An environment variable `BOUNCETAP_SECTION__KEY`",
             "(`BOUNCETAP_PROXY__LISTEN`, `BOUNCETAP_PROXY__LIMITS__CONNECTIONS`, `BOUNCETAP_STATE_DIR`; lists separated by commas)",
             "outranks the file. Durations: `ms s m h d w`; sizes: `KB MB GB` (powers of 1000), `KiB MiB GiB` (of 1024).",
             "`bouncetap reload` takes over every option but those marked (R), which need a restart.", "",
             "This page is generated from `bouncetap/config/options.py`.", ""]  # fmt: skip
    for section, options in _by_section():
        lines += [f"## [{section}]" if section else "## Top", "", SECTIONS[section], "", "| key | value | default | meaning |",
                  "|---|---|---|---|"]  # fmt: skip
        for option in options:
            default = f"`{option.default}`" if option.default is not None else "unset"
            kind = option.type.name.replace("|", "\\|")
            restart = "" if option.reloadable else " (R)"
            lines.append(f"| `{option.key}` | {kind} | {default} | {option.doc}{restart} |")
        lines.append("")
    return "\n".join(lines)


def sample() -> str:
    """etc/bouncetap.full.toml: every option, commented out, with its default."""
    lines = ["# Every option with its default. Uncomment what you change; see docs/configuration.md.", ""]
    for section, options in _by_section():
        if section:
            lines += [f"[{section}]", *_comment(SECTIONS[section])]
        for option in options:
            lines += _comment(option.doc)
            lines += [f"#{option.key} = {option.default if option.default is not None else _example(option)}", ""]
    return "\n".join(lines)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 110)]


def _example(option: Option) -> str:
    examples = {"proxy.hostname": '"mx.bounces.example.com"', "proxy.domains": '["bounces.example.com"]',
                "legacy.hosts": '["192.0.2.10:25"]'}  # fmt: skip
    if option.name in examples:
        return examples[option.name]
    return '"14d"' if option.section == "retention" else f'"/etc/bouncetap/{option.key}"'


def show(config: Config) -> str:
    """The values in force, as TOML, each with where it came from. No option holds a secret: passwords stand in files."""
    lines = [f"# from {config.path or 'defaults alone'}"]
    for section, options in _by_section():
        if section:
            lines += ["", f"[{section}]"]
        for option in options:
            value = config[option.name]
            shown = f"{option.key} = {_toml(option, value)}" if value is not None else f"# {option.key} is unset"
            origin = config.origins[option.name]
            lines.append(shown if origin == "file" else f"{shown}  # {origin}")
    return "\n".join(lines)


def _toml(option: Option, value: Any) -> str:
    if option.type in {DURATION, POSITIVE_DURATION}:
        return f'"{format_duration(value)}"'
    if option.type in {SIZE, POSITIVE_SIZE}:
        return f'"{format_size(value)}"'
    if isinstance(value, tuple):
        return json.dumps(list(value), ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    (root / "docs/configuration.md").write_text(reference(), encoding="utf-8")
    (root / "etc/bouncetap.full.toml").write_text(sample(), encoding="utf-8")
