"""TLS with certificate files that may be renewed while the service runs."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import structlog

from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings

_SETTING = "BC_TLS_CERT_FILE, BC_TLS_KEY_FILE"
FileState = tuple[tuple[int, int, int], ...]


class Certificates:
    """Certificate and key for new connections.

    Renewed files are loaded into a new context, which replaces the last one only when the key
    fits the certificate: half-written files change nothing. Open connections stay as they are.

    Attributes
    ----------
    context : ssl.SSLContext
        For the listener; each handshake uses the newest certificate.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._loaded_state = self._file_state()
        self._newest = self.context = self._load()
        self.context.sni_callback = self._use_newest

    @classmethod
    def from_settings(cls, settings: Settings) -> Certificates | None:
        """The configured certificate; None where the service speaks plain HTTP.

        Raises
        ------
        ConfigError
            Where the files do not hold a certificate and its key.
        """
        certificate, key = settings.tls_cert_file, settings.tls_key_file
        return None if certificate is None or key is None else cls(certificate, key)

    def refresh(self) -> None:
        """Load renewed files; cheap where nothing changed, for a timer."""
        state = self._file_state()
        if state == self._loaded_state:
            return
        self._loaded_state = state
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
            # An empty password: OpenSSL must not prompt for one on the terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "reason", None)
            raise ConfigError(
                f"The TLS certificate and key cannot be used: {reason or 'not PEM'}.",
                "Name a PEM chain in BC_TLS_CERT_FILE, its key, unencrypted, in BC_TLS_KEY_FILE.",
                setting=_SETTING,
            ) from None
        return context

    def _use_newest(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        connection.context = self._newest

    def _file_state(self) -> FileState:
        try:
            states = [os.stat(path) for path in (self._certificate, self._key)]
        except OSError:
            return ()
        return tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in states)
