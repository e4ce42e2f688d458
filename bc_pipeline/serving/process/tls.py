"""TLS with certificate files that may be renewed while the service runs."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import structlog

from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings

_SETTING = "BC_TLS_CERT_FILE, BC_TLS_KEY_FILE"
State = tuple[tuple[int, int, int], ...]


class Certificates:
    """The pair that new connections are served with.

    A renewed pair is loaded into a context of its own, which replaces the old one only when
    the key fits the certificate: a pair of which half is written must not spoil what works.
    Connections that are open stay as they are.

    Attributes
    ----------
    context : ssl.SSLContext
        For the listener; each handshake is handed the newest pair.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._seen = self._state()
        self._newest = self.context = self._load()
        self.context.sni_callback = self._hand_newest

    @classmethod
    def of(cls, settings: Settings) -> Certificates | None:
        """The configured pair; None where the service speaks plain HTTP.

        Raises
        ------
        ConfigError
            Where the files are no pair of a certificate and its key.
        """
        certificate, key = settings.tls_cert_file, settings.tls_key_file
        return None if certificate is None or key is None else cls(certificate, key)

    def refresh(self) -> None:
        """Take a renewed pair; cheap where nothing changed, for a timer."""
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._newest = self._load()
        except ConfigError as error:
            structlog.get_logger().error("certificate_refused", reason=error.message)
        else:
            structlog.get_logger().info("certificate_renewed")

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # An empty password: a key that needs one must not make OpenSSL ask a terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "reason", None)
            raise ConfigError(
                f"The TLS certificate and key cannot be used: {reason or 'not PEM'}.",
                "Name a PEM chain in BC_TLS_CERT_FILE, its key, unencrypted, in BC_TLS_KEY_FILE.",
                setting=_SETTING,
            ) from None
        return context

    def _hand_newest(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        connection.context = self._newest

    def _state(self) -> State:
        found = []
        for path in (self._certificate, self._key):
            try:
                status = os.stat(path)
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)
