from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from bc_pipeline.errors import ConfigError
from bc_pipeline.server.tls import Certificates
from bc_pipeline.settings import Settings
from tests.certificates import Authority


def served_serial(certificates: Certificates, trust: ssl.SSLContext) -> str:
    """Serial number of the certificate that a client gets, by a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    unfinished = [client, server]
    while unfinished:
        for side in list(unfinished):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            unfinished.remove(side)
    certificate = client.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "tls.crt", tmp_path / "tls.key"


def test_without_files_there_is_no_tls(settings: Settings) -> None:
    assert Certificates.from_settings(settings) is None


def test_a_renewed_certificate_is_served(settings: Settings, pair: tuple[Path, Path]) -> None:
    authority = Authority()
    first = authority.issue(*pair)
    certificates = Certificates.from_settings(
        settings.model_copy(update={"tls_cert_file": pair[0], "tls_key_file": pair[1]})
    )
    assert certificates is not None
    assert served_serial(certificates, authority.trust()) == first
    certificates.refresh()
    assert served_serial(certificates, authority.trust()) == first
    second = authority.issue(*pair)
    certificates.refresh()
    assert served_serial(certificates, authority.trust()) == second


@pytest.mark.parametrize("change", ["other key", "no key", "no certificate", "gone"])
def test_invalid_files_change_nothing_until_they_are_valid(
    change: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    authority = Authority()
    first = authority.issue(*pair)
    certificates = Certificates(*pair)
    if change == "other key":
        authority.issue(tmp_path / "other.crt", pair[1])
    elif change == "gone":
        pair[0].unlink()
    else:
        pair[change == "no key"].write_text("nothing of use")
    certificates.refresh()
    assert served_serial(certificates, authority.trust()) == first
    second = authority.issue(*pair)
    certificates.refresh()
    assert served_serial(certificates, authority.trust()) == second


def test_tls_versions_below_1_2_are_not_offered(pair: tuple[Path, Path]) -> None:
    Authority().issue(*pair)
    assert Certificates(*pair).context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("broken", ["missing", "key with a password", "no PEM"])
def test_an_error_names_the_settings_of_unusable_files(
    broken: str, pair: tuple[Path, Path]
) -> None:
    Authority().issue(*pair)
    if broken == "missing":
        pair[1].unlink()
    elif broken == "no PEM":
        pair[0].write_bytes(b"\0")
    else:
        key = serialization.load_pem_private_key(pair[1].read_bytes(), None)
        pair[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
    with pytest.raises(ConfigError) as refused:
        Certificates(*pair)
    assert refused.value.setting == "BC_TLS_CERT_FILE, BC_TLS_KEY_FILE"
    assert "secret" not in str(refused.value)
