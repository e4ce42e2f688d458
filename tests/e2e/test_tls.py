"""The service over TLS, with a certificate that is renewed while it runs."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

from bc_pipeline.settings import Settings
from tests.certificates import Authority
from tests.e2e.service_process import Load, running_service
from tests.waiting import PATIENCE, wait_until

WORKERS = 2


def serial(port: int, trust: ssl.SSLContext) -> str:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        certificate = secure.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


def test_a_renewed_certificate_is_served_and_drops_no_connection(
    settings: Settings, tmp_path: Path, releases: Any, fitted: Any, reference: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    authority = Authority()
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    first = authority.issue(certificate, key)
    with (
        running_service(
            settings,
            tmp_path,
            workers=WORKERS,
            tls=authority.trust(),
            BC_TLS_CERT_FILE=str(certificate),
            BC_TLS_KEY_FILE=str(key),
        ) as service,
        Load(service, reference[0].tolist()) as load,
    ):
        wait_until(lambda: len(load.answers) > 50)
        assert {serial(service.port, authority.trust()) for _ in range(8)} == {first}

        # Half-renewed files: the last certificate stays in use.
        good_key = key.read_bytes()
        key.write_bytes(b"not a key")
        wait_until(
            lambda: any(event["event"] == "certificate_refused" for event in service.events())
        )
        assert serial(service.port, authority.trust()) == first
        key.write_bytes(good_key)

        second = authority.issue(certificate, key)
        wait_until(lambda: {serial(service.port, authority.trust()) for _ in range(8)} == {second})
        answered = len(load.answers)
        wait_until(lambda: len(load.answers) > answered + 50)
    assert load.failures == []
    assert {answer.status for answer in load.answers} == {200}
    assert all("strict-transport-security" in answer.headers for answer in load.answers)


def test_old_tls_versions_and_plain_http_are_refused(settings: Settings, tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    authority.issue(certificate, key)
    with running_service(
        settings,
        tmp_path,
        tls=authority.trust(),
        BC_TLS_CERT_FILE=str(certificate),
        BC_TLS_KEY_FILE=str(key),
    ) as service:
        assert service.ask("GET", "/livez")[0] == 200
        with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: s\r\n\r\n")
            assert b"200" not in plain.recv(100)
        modern = authority.trust()
        modern.minimum_version = ssl.TLSVersion.TLSv1_2
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            modern.maximum_version = version
            assert serial(service.port, modern)
