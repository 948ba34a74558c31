"""The proxy's settings from a checked configuration. Imports nothing of the store, as the proxy's process must not."""

from __future__ import annotations

from bouncetap.config.load import Config
from proxy.settings import JournalSettings, Legacy, Limits, Listen, ProxySettings

PER_ADDRESS = ("proxy.limits.connections_per_address", "proxy.limits.rate_per_address")


def journal_settings(config: Config) -> JournalSettings:
    """`[journal]`."""
    return JournalSettings(
        dir=config.directory("journal.dir"),
        on_failure=config["journal.on_failure"],
        reserve_bytes=config["journal.reserve"],
        max_backlog_bytes=config["journal.max_backlog"],
        segment_bytes=config["journal.segment_size"],
        copy_forward_after_s=config["journal.copy_forward_after"],
    )


def proxy_settings(config: Config) -> ProxySettings:
    """`[proxy]`, `[proxy.limits]`, `[legacy]`, `[journal]`."""
    limits = Limits(
        connections=config["proxy.limits.connections"],
        connections_per_address=config["proxy.limits.connections_per_address"],
        rate_per_address=config["proxy.limits.rate_per_address"],
        # A default is meant for the network: the machine's own relay, or somebody's load test, is no flood.
        loopback_exempt=all(config.origins[name] == "default" for name in PER_ADDRESS),
        recipients=config["proxy.limits.recipients"],
        messages_per_connection=config["proxy.limits.messages_per_connection"],
        bytes_in_flight=config["proxy.limits.bytes_in_flight"],
        command_timeout_s=config["proxy.limits.command_timeout"],
        data_timeout_s=config["proxy.limits.data_timeout"],
        data_total_timeout_s=config["proxy.limits.data_total_timeout"],
        min_rate_bytes_s=config["proxy.limits.min_rate"],
        bad_commands=config["proxy.limits.bad_commands"],
        command_line_bytes=config["proxy.limits.command_line"],
    )
    listen = Listen(
        listen=config["proxy.listen"],
        hostname=config["proxy.hostname"],
        domains=config["proxy.domains"] or (),
        max_message_size_bytes=config["proxy.max_message_size"],
        tls_cert=config.optional_path("proxy.tls_cert"),
        tls_key=config.optional_path("proxy.tls_key"),
        smuggling=config["proxy.smuggling"],
        add_received=config["proxy.add_received"],
        proxy_protocol_from=config["proxy.proxy_protocol_from"],
        drain_timeout_s=config["proxy.drain_timeout"],
        limits=limits,
    )
    legacy = Legacy(
        hosts=config["legacy.hosts"] or (),
        deadline_s=config["legacy.deadline"],
        on_tempfail=config["legacy.on_tempfail"],
        tls=config["legacy.tls"],
        client_address=config["legacy.client_address"],
        user=config["legacy.user"],
        password_file=config.optional_path("legacy.password_file"),
        connections=config["legacy.connections"],
        replay_connections=config["legacy.replay_connections"],
        retry_min_s=config["legacy.retry_min"],
        retry_max_s=config["legacy.retry_max"],
        connect_timeout_s=config["legacy.connect_timeout"],
        greeting_timeout_s=config["legacy.greeting_timeout"],
        command_timeout_s=config["legacy.command_timeout"],
        reply_timeout_s=config["legacy.reply_timeout"],
    )
    return ProxySettings(listen, legacy, journal_settings(config), config.state_dir, config["proxy.workers"])
