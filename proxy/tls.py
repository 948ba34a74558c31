"""The server side of STARTTLS: one context, replaced as a whole when the certificate is renewed.

Connections keep the context they began with. A failed reload leaves the old one in force and says why.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from proxy.errors import StartError


class ServerTls:
    """Certificate and key from files, TLS 1.2 or later, no client certificates."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        """Load them; `StartError` if that cannot be done."""
        self._cert, self._key = cert, key
        self.context = self._load()

    def reload(self, cert: Path, key: Path | None) -> None:
        """Use these files from the next handshake on; `StartError`, with the old context kept, if they are bad."""
        old = self._cert, self._key
        self._cert, self._key = cert, key
        try:
            self.context = self._load()
        except StartError:
            self._cert, self._key = old
            raise

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        try:
            context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            raise StartError(f"cannot load tls_cert {self._cert} / tls_key {self._key}: {error}") from None
        return context


def server_tls(cert: Path | None, key: Path | None) -> ServerTls | None:
    """The TLS of a configuration: None where no certificate is configured."""
    if cert is None:
        if key is not None:
            raise StartError("tls_key is set but tls_cert is not")
        return None
    return ServerTls(cert, key)
