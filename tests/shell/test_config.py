"""The configuration: every option documented, all errors at once, the defaults of the contract."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from bouncetap.config import ConfigError, load
from bouncetap.config import values as v
from bouncetap.config.for_proxy import proxy_settings
from bouncetap.config.for_store import imap_settings, store_settings
from bouncetap.config.options import FOLDERS, OPTIONS, Option, folder_key
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
    missing = ("proxy.tls_", "imap.tls_", "legacy.password_file", "legacy.user")
    errors = errors_of(tmp_path, text)
    assert not [error for error in errors if not error.removeprefix(f"{tmp_path}/bouncetap.toml: ").startswith(missing)]


def test_minimal_sample_loads() -> None:
    config = load(ROOT / "etc/bouncetap.minimal.toml", serving=True, environment={})
    assert config["proxy.domains"] == ("bounces.example.com",)


def test_defaults_are_those_of_the_parts_own_settings(tmp_path: Path) -> None:
    """One truth: what the table says and what the dataclasses say must not drift apart."""
    config = load(write(tmp_path, f'state_dir = "{tmp_path}"\n' + TEN_LINES), serving=True, environment={})
    proxy, default = proxy_settings(config), ProxySettings()
    assert proxy.listen.limits == dataclasses.replace(default.listen.limits, loopback_exempt=True)
    assert proxy.legacy.deadline_s == default.legacy.deadline_s
    for name in ("on_tempfail", "connections", "replay_connections", "retry_max_s", "reply_timeout_s", "tls"):
        assert getattr(proxy.legacy, name) == getattr(default.legacy, name)
    for name in ("on_failure", "reserve_bytes", "max_backlog_bytes", "segment_bytes", "copy_forward_after_s"):
        assert getattr(proxy.journal, name) == getattr(default.journal, name)
    assert proxy.listen.max_message_size_bytes == default.listen.max_message_size_bytes
    assert store_settings(config).retention == StoreSettings().retention
    assert imap_settings(config).listen == ImapSettings().listen
    assert store_settings(config).index_url == f"sqlite:///{tmp_path}/index.db"


def test_a_limit_an_address_that_is_set_holds_for_loopback_too(tmp_path: Path) -> None:
    text = f'state_dir = "{tmp_path}"\n{TEN_LINES}\n[proxy.limits]\nrate_per_address = 300\n'
    config = load(write(tmp_path, text), serving=True, environment={})
    assert proxy_settings(config).listen.limits == ProxySettings().listen.limits


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
        ('[quarantine]\nbackend = "imap"\n', 'quarantine.backend = "imap": an external IMAP server'),
        ('[quarantine.imap]\nhost = "x"\n', "[quarantine.imap]: an external IMAP server"),
        ('[[stream]]\nname = "x"\n', "[stream]: flows with their own policy"),
        ('[[route]]\nto = "x"\n', "[route]: outgoing routes"),
        ("[proxy]\nworkers = 4\n", "proxy.workers = 4: this version supports 1"),
        (
            '[index]\nurl = "postgresql://u:secret@x/y"\n',
            'index.url = "postgresql://...": this version supports SQLite',
        ),
        ('[index]\nurl = "mysql://u:sec/ret@x/y?password=z"\n', 'index.url = "mysql://...": this version'),
        ('[index]\nurl = "sqlite:///:memory:"\n', "this version supports SQLite in a file"),
        ('[index]\nurl = "sqlite://"\n', "this version supports SQLite in a file"),
        ('[imap]\nlisten_tls = ["127.0.0.1:993"]\n', "imap.listen_tls: needs imap.tls_cert"),
        ('[imap]\ntls_key = "/dev/null"\n', "imap.tls_cert, imap.tls_key: set both or none"),
        ('[proxy]\ntls_cert = "/"\ntls_key = "nowhere"\n', 'proxy.tls_cert = "/": cannot be read'),
        ('[legacy]\nuser = "x"\n', "legacy.user, legacy.password_file: set both or none"),
        ('[legacy]\nretry_min = "10m"\n', "legacy.retry_min: must not be more than legacy.retry_max"),
        ('[proxy]\nmax_message_size = "1TB"\n', "must not be more than proxy.limits.bytes_in_flight"),
        ("[proxy]\nlisten = []\n", "proxy.listen: must name at least one address"),
        ('[proxy]\ndeadline = "2s"\n', "proxy.deadline: there is no such option (did you mean legacy.deadline?)"),
        ('[legacy]\nhost = "x"\n', "legacy.host: there is no such option (did you mean legacy.hosts"),
        ("[proxi]\nx = 1\n", "[proxi]: there is no such section (did you mean proxy?)"),
        ("[loging]\nx = 1\n", "[loging]: there is no such section (did you mean log?)"),
        ("proxy = 3\n", "proxy = 3: must be a section, [proxy]"),
    ],
)
def test_what_is_not_supported_or_does_not_fit_together(tmp_path: Path, text: str, expected: str) -> None:
    assert f"{tmp_path}/bouncetap.toml: " in errors_of(tmp_path, text)[0]
    assert expected in "\n".join(errors_of(tmp_path, text))


WRONG = {
    v.TEXT: ["1", "true"],
    v.INTEGER: ["0", "-1", "1.5", '"many"', "true", "99999999999", '"' + "9" * 5000 + '"'],
    v.COUNT_OR_AUTO: ["-1", "1.5", '"many"', "false", "true", "99999999999"],
    v.BOOLEAN: ["1", '"yes"'],
    v.DURATION: ["2", '"2"', '"2 years"', '"-1s"', '"1e3s"', '"4000000w"', "true", '"' + "9" * 5000 + 's"'],
    v.SIZE: ["-1", '"big"', '"1 PB"', "true", "1000.5", '"99999999TB"', '"' + "9" * 5000 + 'B"'],
    v.ADDRESS: ["25", '"25"', '":25"', '"host"', '"host:99999"', '"::1:25"', '"host:2x"'],
    v.OPTIONAL_ADDRESS: ["9025", '"localhost"'],
    v.PATH: ['""', "1", "[]"],
    v.HOSTNAME: ['"two words"', '"a..b"', '"x\\r\\ny"', "1"],
    v.TEXTS: ["1", "[1]"],
    v.ADDRESSES: ["1", '["nowhere"]', "[25]"],
    v.PEERS: ['["127.0.0.1:0"]', '["[::1]"]'],
    v.DOMAINS: ["1", '["a@b"]', '["two words"]', '["*"]', '["*.*.example"]', '["a..b"]', "[1]"],
    v.NETWORKS: ['["10.0.0.1/8"]', '["here"]', "[1]"],
    v.VERPS: ['["no place"]', '["{address}{token}"]', "[1]"],
}
WRONG[v.POSITIVE_DURATION] = [*WRONG[v.DURATION], '"0s"']
WRONG[v.POSITIVE_SIZE] = [*WRONG[v.SIZE], "0", '"0MB"']


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_wrong_value_is_told_with_file_key_value_and_what_is_allowed(tmp_path: Path, option: Option) -> None:
    for wrong in WRONG.get(option.type, ['"nonsense"', "1"]):  # the rest are choices of words
        table = f"[{option.section}]\n" if option.section else ""
        text = f"{table}{option.key} = {wrong}\n"
        with pytest.raises(ConfigError) as caught:
            load(write(tmp_path, text), environment={})
        (error,) = caught.value.errors
        assert error.startswith(f"{tmp_path}/bouncetap.toml: {option.name} = "), error
        assert wrong.strip('"')[:30] in error.replace("\\\\", "\\"), error
        assert "must " in error, error
        assert len(error) < 400, error


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"x = \n", "is not valid TOML: Invalid value (at line 1"),
        (b"[proxy]\nlisten = [\n", "is not valid TOML"),
        (b"[proxy]\n[proxy]\n", "is not valid TOML"),
        (b"# caf\xe9\n", "is not UTF-8 (byte 5)"),
        (b"\0", "is not valid TOML"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "bouncetap.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)) as caught:
        load(path, environment={})
    (error,) = caught.value.errors
    assert expected in error


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, expected in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file")):
        with pytest.raises(ConfigError, match=expected) as caught:
            load(path, environment={})
        assert str(path) in caught.value.errors[0]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "bouncetap.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TEN_LINES.replace("\n", "\r\n").encode())
    assert load(path, serving=True, environment={})["proxy.domains"] == ("bounces.example.com",)


def test_the_defaults_are_those_that_were_promised(tmp_path: Path) -> None:
    promised = """\
        state_dir = "./var"
        [proxy]
        listen = ["127.0.0.1:2525"]
        max_message_size = "50MB"
        workers = 1
        smuggling = "refuse"
        add_received = false
        proxy_protocol_from = []
        [legacy]
        deadline = "2s"
        on_tempfail = "spool"
        tls = "off"
        client_address = "none"
        [journal]
        dir = "<state_dir>/journal"
        on_failure = "forward"
        reserve = "1GB"
        max_backlog = "50GB"
        [index]
        url = "sqlite:///<state_dir>/index.db"
        [quarantine]
        backend = "embedded"
        [retention]
        default = "14d"
        bounces_hard = "30d"
        bounces_soft = "30d"
        bounces_blocked = "30d"
        bounces_admin = "30d"
        replies = "90d"
        unsubscribes = "365d"
        complaints = "365d"
        [imap]
        listen = ["127.0.0.1:1143"]
        listen_tls = []
        [http]
        listen = "127.0.0.1:9025"
        [log]
        format = "json"
        redact = true
        """
    assert load(write(tmp_path, "")).values == load(write(tmp_path, promised)).values


def test_what_is_shown_can_be_loaded_again(tmp_path: Path) -> None:
    first = load(write(tmp_path, TEN_LINES), serving=True, environment={})
    shown = show(first)
    assert 'deadline = "2s"  # default' in shown
    assert 'segment_size = "64MiB"  # default' in shown
    assert 'bounces_hard = "30d"  # default' in shown
    assert load(write(tmp_path, shown), serving=True, environment={}).values == first.values


@pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0, 90.0, 3600.0, 86_400.0, 604_800.0, 1_209_600.0])
def test_durations_read_back(seconds: float) -> None:
    assert v.parse_duration(v.format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("size_bytes", [0, 1, 500, 2048, 50_000_000, 67_108_864, 10**9, 123_456_789])
def test_sizes_read_back(size_bytes: int) -> None:
    assert v.parse_size(v.format_size(size_bytes)) == size_bytes


def test_what_is_given_and_wrong_is_not_called_missing_too(tmp_path: Path) -> None:
    assert len(errors_of(tmp_path, '[proxy]\ndomains = ["a b"]\n[legacy]\nhosts = ["nowhere"]\n')) == 2
    assert len(errors_of(tmp_path, "[proxy]\ndomains = []\n")) == 2


def test_environment_outranks_the_file_and_unknown_variables_are_errors(tmp_path: Path) -> None:
    path = write(tmp_path, TEN_LINES)
    environment = {"BOUNCETAP_PROXY__LISTEN": "127.0.0.1:1, [::1]:2", "BOUNCETAP_PROXY__LIMITS__CONNECTIONS": "7"}
    config = load(path, serving=True, environment=environment)
    assert config["proxy.listen"] == ("127.0.0.1:1", "[::1]:2")
    assert config["proxy.limits.connections"] == 7
    assert "BOUNCETAP_PROXY__LISTEN" in show(config)
    assert "BOUNCETAP_NO_SUCH" in errors_of(tmp_path, TEN_LINES, {"BOUNCETAP_NO_SUCH": "1"})[0]
    (error,) = errors_of(tmp_path, TEN_LINES, {"BOUNCETAP_LEGACY__DEADLINE": "soon"})
    assert error.startswith('environment variable BOUNCETAP_LEGACY__DEADLINE: legacy.deadline = "soon": must be')


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    config = load(write(tmp_path, TEN_LINES), serving=True, environment={})
    assert config.state_dir == tmp_path / "var"
    assert config.directory("journal.dir") == tmp_path / "var/journal"
    relative = load(write(tmp_path, '[index]\nurl = "sqlite:///here/index.db"\n'), environment={})
    assert relative["index.url"] == f"sqlite:///{tmp_path}/here/index.db"


def test_every_folder_has_its_retention_key() -> None:
    assert folder_key("Bounces/Hard") == "bounces_hard"
    assert folder_key("Auto-Replies") == "auto_replies"
    names = {option.name for option in OPTIONS}
    assert {f"retention.{folder_key(folder)}" for folder in FOLDERS} <= names
