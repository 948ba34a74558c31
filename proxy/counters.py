"""What is counted of SMTP sessions, as Prometheus metrics (docs/operations.md says what to watch)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CONNECTIONS = Counter("bouncetap_proxy_connections", "SMTP connections accepted from the network")
OPEN = Gauge("bouncetap_proxy_open_connections", "SMTP connections open now")
IN_FLIGHT = Gauge("bouncetap_proxy_in_flight_bytes", "Bytes of message bodies being received or delivered")
MESSAGES = Counter("bouncetap_proxy_messages", "Messages received to the final dot, by reply class", ["reply"])
MESSAGES_BY_CLASS = {digit: MESSAGES.labels(f"{digit}xx") for digit in (2, 4, 5)}
BYTES = Counter("bouncetap_proxy_received_bytes", "Body bytes received")
REFUSED = Counter("bouncetap_proxy_refused", "Connections, commands and messages refused, by reason", ["reason"])
BARE = Counter("bouncetap_proxy_bare_line_ends", "Bare CR and LF in bodies", ["octet"])
TLS_HANDSHAKES = Counter("bouncetap_proxy_tls_handshakes", "STARTTLS handshakes", ["result"])
EARLY = Counter("bouncetap_proxy_early_talkers", "Connections that spoke before the greeting")
LATENCY = Histogram(
    "bouncetap_proxy_reply_seconds",
    "From the final dot to the reply on the socket",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 5, 10, 30, 60, 600),
)
