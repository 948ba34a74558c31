"""The store's and the IMAP server's settings from a checked configuration."""

from __future__ import annotations

from bouncetap.config.load import Config
from bouncetap.config.options import FOLDERS, folder_key
from classifier.context import Patterns
from store.settings import ImapSettings, Retention, StoreSettings


def patterns(config: Config) -> Patterns:
    """`[classifier]`."""
    return Patterns(
        verp=config["classifier.verp"],
        unsubscribe_addresses=config["classifier.unsubscribe_addresses"],
        sent_domains=config["classifier.sent_domains"],
    )


def store_settings(config: Config) -> StoreSettings:
    """`[index]`, `[retention]`, `[classifier]` and where things are."""
    kept = {folder: config[f"retention.{folder_key(folder)}"] for folder in FOLDERS}
    return StoreSettings(
        state_dir=config.state_dir,
        journal_dir=config.directory("journal.dir"),
        index_url=config["index.url"],
        reserve_bytes=config["journal.reserve"],
        retention=Retention(
            default_s=int(config["retention.default"]),
            by_folder_s={folder: int(seconds) for folder, seconds in kept.items() if seconds is not None},
        ),
        patterns=patterns(config),
        workers=config["classifier.workers"],
        expire_interval_s=config["retention.expire_every"],
    )


def imap_settings(config: Config) -> ImapSettings:
    """`[imap]`."""
    return ImapSettings(
        listen=config["imap.listen"],
        listen_tls=config["imap.listen_tls"],
        tls_cert=config.optional_path("imap.tls_cert"),
        tls_key=config.optional_path("imap.tls_key"),
        connections=config["imap.connections"],
        connections_per_address=config["imap.connections_per_address"],
        idle_timeout_s=config["imap.idle_timeout"],
        store=store_settings(config),
    )
