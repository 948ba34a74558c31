"""The configuration: every option documented, all errors at once, the defaults of the contract."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bouncetap.config import ConfigError, load
from bouncetap.config.for_proxy import proxy_settings
from bouncetap.config.for_store import imap_settings, store_settings
from bouncetap.config.options import FOLDERS, OPTIONS, folder_key
from bouncetap.config.render import reference, sample, show
from proxy.settings import ProxySettings
from store.settings import ImapSettings, StoreSettings

ROOT = Path(__file__).parents[2]
TEN_LINES = '[proxy]\ndomains = ["bounces.example.com"]\n[legacy]\nhosts = ["127.0.0.1:2526"]\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bouncetap.toml"
    path.write_text(text, encoding="utf-8")
    return path


def errors_of(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), serving=True, environment=environment or {})
    return caught.value.errors


def test_reference_page_and_full_sample_are_current() -> None:
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == reference()
    assert (ROOT / "etc/bouncetap.full.toml").read_text(encoding="utf-8") == sample()


def test_full_sample_with_everything_uncommented_has_no_unknown_option(tmp_path: Path) -> None:
    text = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in sample().splitlines()
    )
    given = tomllib.loads(text)
    assert given["proxy"]["limits"]["connections"] == 2000
    unreadable = {error.split(":")[1].strip() for error in errors_of(tmp_path, text)}
    assert unreadable <= {"proxy.tls_cert", "proxy.tls_key", "imap.tls_cert", "imap.tls_key", "legacy.password_file",
                          "legacy.user, legacy.password_file"}  # fmt: skip


def test_minimal_sample_loads() -> None:
    config = load(ROOT / "etc/bouncetap.minimal.toml", serving=True, environment={})
    assert config["proxy.domains"] == ("bounces.example.com",)


def test_defaults_are_those_of_the_parts_own_settings(tmp_path: Path) -> None:
    """One truth: what the table says and what the dataclasses say must not drift apart."""
    config = load(write(tmp_path, f'state_dir = "{tmp_path}"\n' + TEN_LINES), serving=True, environment={})
    proxy, default = proxy_settings(config), ProxySettings()
    assert proxy.listen.limits == default.listen.limits
    assert proxy.legacy.deadline_s == default.legacy.deadline_s
    for name in ("on_tempfail", "connections", "replay_connections", "retry_max_s", "reply_timeout_s", "tls"):
        assert getattr(proxy.legacy, name) == getattr(default.legacy, name)
    for name in ("on_failure", "reserve_bytes", "max_backlog_bytes", "segment_bytes", "copy_forward_after_s"):
        assert getattr(proxy.journal, name) == getattr(default.journal, name)
    assert proxy.listen.max_message_size_bytes == default.listen.max_message_size_bytes
    assert store_settings(config).retention == StoreSettings().retention
    assert imap_settings(config).listen == ImapSettings().listen
    assert store_settings(config).index_url == f"sqlite:///{tmp_path}/index.db"


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    text = (
        'nonsense = 1\n[proxy]\nlisten = ["nowhere"]\nworkers = 2\nmax_message_size = "big"\n[legacy]\ndeadline = 2\n'
    )
    errors = "\n".join(errors_of(tmp_path, text))
    for expected in ("nonsense", "proxy.listen", "proxy.workers", "proxy.max_message_size", "legacy.deadline",
                     "proxy.domains", "legacy.hosts"):  # fmt: skip
        assert expected in errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[quarantine]\nbackend = "imap"\n', "quarantine.backend"),
        ('[quarantine.imap]\nhost = "x"\n', "quarantine.imap"),
        ('[[stream]]\nname = "x"\n', "[stream]"),
        ('[[route]]\nto = "x"\n', "[route]"),
        ('[index]\nurl = "postgresql://x/y"\n', "index.url"),
        ('[imap]\nlisten_tls = ["127.0.0.1:993"]\n', "imap.listen_tls"),
        ('[proxy]\ndeadline = "2s"\n', "did you mean legacy.deadline"),
        ('[classifier]\nverp = ["no place"]\n', "classifier.verp"),
        ("[log]\nredact = 1\n", "log.redact"),
        ("x = \n", "not valid TOML"),
    ],
)
def test_what_is_not_supported_or_wrong_is_an_error(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(errors_of(tmp_path, text))


def test_environment_outranks_the_file_and_unknown_variables_are_errors(tmp_path: Path) -> None:
    path = write(tmp_path, TEN_LINES)
    environment = {"BOUNCETAP_PROXY__LISTEN": "127.0.0.1:1, [::1]:2", "BOUNCETAP_PROXY__LIMITS__CONNECTIONS": "7"}
    config = load(path, serving=True, environment=environment)
    assert config["proxy.listen"] == ("127.0.0.1:1", "[::1]:2")
    assert config["proxy.limits.connections"] == 7
    assert "BOUNCETAP_PROXY__LISTEN" in show(config)
    assert "BOUNCETAP_NO_SUCH" in errors_of(tmp_path, TEN_LINES, {"BOUNCETAP_NO_SUCH": "1"})[0]


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    config = load(write(tmp_path, TEN_LINES), serving=True, environment={})
    assert config.state_dir == tmp_path / "var"
    assert config.directory("journal.dir") == tmp_path / "var/journal"


def test_every_folder_has_its_retention_key() -> None:
    assert folder_key("Bounces/Hard") == "bounces_hard"
    assert folder_key("Auto-Replies") == "auto_replies"
    names = {option.name for option in OPTIONS}
    assert {f"retention.{folder_key(folder)}" for folder in FOLDERS} <= names
