from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import httpx
import pytest

from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings
from bc_pipeline.stack.components import (
    components,
    service_tls_verification,
    service_url,
    training_runs_url,
)
from bc_pipeline.stack.credentials import make_secrets
from tests.certificates import Authority
from tests.waiting import PATIENCE


@pytest.fixture
def secure(settings: Settings, tmp_path: Path) -> Settings:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    Authority().issue(certificate, key)
    return settings.model_copy(update={"tls_cert_file": certificate, "tls_key_file": key})


def test_the_service_is_asked_over_tls_where_it_speaks_tls(
    settings: Settings, secure: Settings
) -> None:
    assert service_url(settings).startswith("http://")
    assert service_url(secure).startswith("https://")
    assert service_tls_verification(settings) is True


@pytest.mark.parametrize("impostor", [False, True])
def test_the_very_certificate_is_believed_and_no_other(
    impostor: bool, secure: Settings, tmp_path: Path
) -> None:
    assert secure.tls_cert_file is not None
    assert secure.tls_key_file is not None
    pair = (secure.tls_cert_file, secure.tls_key_file)
    trust = service_tls_verification(secure)
    if impostor:
        pair = (tmp_path / "other.crt", tmp_path / "other.key")
        Authority().issue(*pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            plain, _ = listener.accept()
            with plain:
                try:
                    with context.wrap_socket(plain, server_side=True) as connection:
                        connection.recv(65536)
                        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                except OSError:
                    return

        server = threading.Thread(target=answer)
        server.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        try:
            if impostor:
                with pytest.raises(httpx.ConnectError):
                    httpx.get(url, verify=trust, trust_env=False)
            else:
                assert httpx.get(url, verify=trust, trust_env=False).status_code == 204
        finally:
            server.join(PATIENCE)


def test_a_certificate_that_cannot_be_read_is_named(secure: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        service_tls_verification(secure.model_copy(update={"tls_cert_file": tmp_path / "none"}))
    assert refused.value.setting == "BC_TLS_CERT_FILE"


def test_no_part_of_airflow_starts_a_log_server(settings: Settings) -> None:
    """It would listen on every address; the API server reads the logs from the volume."""
    make_secrets(settings)
    by_name = {component.name: component.command for component in components(settings)}
    for name in ("airflow-scheduler", "airflow-triggerer"):
        assert "--skip-serve-logs" in by_name[name]


@pytest.mark.parametrize(
    ("status", "body", "page"),
    [
        (
            200,
            '{"experiment": {"experiment_id": "7"}}',
            "/#/experiments/7/runs?workflowType=machine_learning",
        ),
        (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST"}', ""),
        (200, "<html>another server</html>", ""),
        (200, "[]", ""),
    ],
)
def test_mlflow_is_opened_at_its_training_runs(
    settings: Settings, status: int, body: str, page: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["experiment_name"] == "wdbc"
        return httpx.Response(status, text=body)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert training_runs_url(settings, client) == f"http://127.0.0.1:5000{page}"


def test_mlflow_that_does_not_answer_is_opened_at_its_first_page(settings: Settings) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with httpx.Client(transport=httpx.MockTransport(refuse)) as client:
        assert training_runs_url(settings, client) == "http://127.0.0.1:5000"
