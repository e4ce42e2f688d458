from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bc_pipeline.errors import AirflowAway, AirflowRefused, StackError
from bc_pipeline.settings import Settings
from bc_pipeline.stack.credentials import make_secrets
from bc_pipeline.stack.first_cycle import last_week, wait_until_reachable


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        (datetime(2026, 11, 21, 11, 31, tzinfo=UTC), 8, 15),  # a Saturday
        (datetime(2026, 11, 22, 0, 0, tzinfo=UTC), 15, 22),  # a Sunday, its first moment
        (datetime(2026, 11, 23, 9, 0, tzinfo=UTC), 15, 22),  # a Monday
    ],
)
def test_the_last_complete_week_runs_from_sunday_to_sunday(
    moment: datetime, start: int, end: int
) -> None:
    assert last_week(moment) == (
        datetime(2026, 11, start, tzinfo=UTC),
        datetime(2026, 11, end, tzinfo=UTC),
    )


class Login(BaseHTTPRequestHandler):
    """Airflow's login, as far as it is needed to be reachable."""

    status = 201

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b'{"access_token": "t"}')


@pytest.fixture
def airflow() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Login) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_servers_that_do_not_answer_are_named(
    settings: Settings, airflow: HTTPServer, free_port: int
) -> None:
    make_secrets(settings)
    ports = {"airflow_port": free_port, "service_port": free_port}
    unreachable = settings.model_copy(update=ports)
    with pytest.raises(AirflowAway, match=f"127.0.0.1:{free_port}"):
        wait_until_reachable(unreachable, 0, lambda _: None)
    half = unreachable.model_copy(update={"airflow_port": airflow.server_port})
    with pytest.raises(StackError, match=f"service at http://127.0.0.1:{free_port}"):
        wait_until_reachable(half, 0, lambda _: None)


def test_servers_are_waited_for(settings: Settings, airflow: HTTPServer, free_port: int) -> None:
    make_secrets(settings)
    ports = {"airflow_port": airflow.server_port, "service_port": free_port}
    reports: list[str] = []
    service: list[HTTPServer] = []

    def start_service(text: str) -> None:
        reports.append(text)
        server = HTTPServer(("127.0.0.1", free_port), Login)
        service.append(server)
        threading.Thread(target=server.serve_forever).start()

    try:
        # An error of the service is an answer, too: it has no champion yet.
        wait_until_reachable(settings.model_copy(update=ports), 60, start_service)
    finally:
        for server in service:
            server.shutdown()
            server.server_close()
    assert reports == [f"The service at http://127.0.0.1:{free_port} does not answer."]


def test_a_rejected_user_is_not_waited_for(
    settings: Settings, airflow: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Login, "status", 401)
    make_secrets(settings)
    with pytest.raises(AirflowRefused):
        wait_until_reachable(
            settings.model_copy(update={"airflow_port": airflow.server_port}), 60, lambda _: None
        )
