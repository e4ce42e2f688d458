"""Retrain over HTTP, against a server that keeps Airflow's contract: run ids are unique."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bc_pipeline.serving.retraining import Retraining, RetrainOrder, is_run_id, run_id_of
from tests.unit.serving.conftest import KEY, Service

PASSWORD = "canary-of-the-airflow-password"
RUNS = "/api/v2/dags/wdbc_retrain/dagRuns"


class Airflow(ThreadingHTTPServer):
    """As much of Airflow as a trigger needs; `test_workflow` asks the real one."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.password = PASSWORD
        self.broken = False
        # What the login and the runs answer instead, where it is set: status and body.
        self.odd_login: tuple[int, bytes] | None = None
        self.odd_run: tuple[int, bytes] | None = None
        self.released = threading.Event()
        self.released.set()
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: Airflow

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.released.wait()
        if self.path == "/auth/token" and self.server.odd_login:
            status, answer = self.server.odd_login
            self._write(status, answer.replace(b"SENT", json.dumps(body).encode()))
        elif self.path == "/auth/token":
            good = body == {"username": "admin", "password": self.server.password}
            self._send(201 if good else 401, {"access_token": "t"} if good else {"detail": "no"})
        elif self.server.broken:
            self._send(500, {"detail": "boom"})
        elif self.path == RUNS and self.headers["Authorization"] == "Bearer t":
            with self.server.lock:
                if body["dag_run_id"] in self.server.runs:
                    self._send(409, {"detail": "exists"})
                    return
                run = {"dag_run_id": body["dag_run_id"], "conf": body["conf"], "state": "queued"}
                self.server.runs[body["dag_run_id"]] = run
            self._send(200, run)
        else:
            self._send(404, {"detail": "no such path"})

    def do_GET(self) -> None:
        if self.server.odd_run:
            self._write(*self.server.odd_run)
            return
        path, _, _ = self.path.partition("?")
        run = self.server.runs.get(path.removeprefix(RUNS + "/").partition("/")[0])
        if run is None:
            self._send(404, {"detail": "no such run"})
        elif path.endswith("/taskInstances"):
            task = {"task_id": "ingest", "map_index": -1, "state": "success", "try_number": 1}
            later = task | {"task_id": "validate", "state": None}
            times = {"start_date": "2026-11-20T00:00:00Z", "end_date": "2026-11-20T00:00:01Z"}
            none = dict.fromkeys(times)
            self._send(200, {"task_instances": [later | none, task | times]})
        else:
            self._send(200, run)

    def _send(self, status: int, content: dict[str, Any]) -> None:
        self._write(status, json.dumps(content).encode())

    def _write(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    with Airflow() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def retrainer(
    airflow: Airflow, start: Callable[..., Service], releases: Any, fitted: Any, tmp_path: Any
) -> Service:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    (tmp_path / "password").write_text(PASSWORD + "\n")
    return start(
        airflow_url=f"http://127.0.0.1:{airflow.server_address[1]}",
        airflow_password_file=tmp_path / "password",
    )


def order(service: Service, key: str | None = "k-1", body: Any = None, **headers: str) -> Any:
    given = {"X-API-Key": KEY} | headers
    if key is not None:
        given["Idempotency-Key"] = key
    if body is not None:
        given["Content-Type"] = "application/json"
    content = body if isinstance(body, str | None) else json.dumps(body)
    return service.request("POST", "/v1/retrain", headers=given, content=content)


def test_a_key_starts_one_run_and_finds_it_again(retrainer: Service, airflow: Airflow) -> None:
    first, again = order(retrainer), order(retrainer)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["location"] == f"/v1/retrain/{first.json()['id']}"
    assert order(retrainer, "k-2").status_code == 202
    assert len(airflow.runs) == 2
    alias = retrainer.request(
        "POST", "/retrain", headers={"X-API-Key": KEY, "Idempotency-Key": "k-2"}
    )
    assert alias.status_code == 200


def test_what_is_ordered_reaches_the_run(retrainer: Service, airflow: Airflow) -> None:
    body = {"as_of": "2026-11-15T01:00:00+01:00", "require_approval": True}
    run = order(retrainer, body=body).json()
    assert airflow.runs[run["id"]]["conf"] == {
        "as_of": "2026-11-15T00:00:00Z",
        "require_approval": True,
    }
    reused = order(retrainer, body={})
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency-key-reused")
    assert len(airflow.runs) == 1


def test_a_run_can_be_followed(retrainer: Service) -> None:
    location = order(retrainer).headers["location"]
    found = retrainer.request("GET", location, headers={"X-API-Key": KEY}).json()
    assert [(task["task"], task["state"]) for task in found["tasks"]] == [
        ("ingest", "success"),
        ("validate", None),
    ]
    for name in ("manual__2026", run_id_of("other", "x"), "api__" + "x" * 32, "..%2f..%2fx"):
        missing = retrainer.request("GET", f"/v1/retrain/{name}", headers={"X-API-Key": KEY})
        assert missing.status_code == 404


def test_airflow_away_is_503_and_the_same_key_works_later(
    retrainer: Service, airflow: Airflow, start: Callable[..., Service], tmp_path: Any
) -> None:
    away = start(airflow_url="http://127.0.0.1:9", airflow_password_file=tmp_path / "password")
    answer = order(away)
    assert (answer.status_code, answer.json()["code"]) == (503, "airflow-away")
    assert "retry-after" in answer.headers
    assert order(retrainer).status_code == 202
    unset = start(airflow_password_file=tmp_path / "none")
    assert order(unset).status_code == 503


def test_airflow_that_refuses_is_502_and_no_secret_shows(
    retrainer: Service, airflow: Airflow, capsys: pytest.CaptureFixture[str]
) -> None:
    airflow.broken = True
    broken = order(retrainer)
    airflow.password = "another"
    refused = order(retrainer)
    for answer in (broken, refused):
        assert (answer.status_code, answer.json()["code"]) == (502, "airflow-refused")
    retrainer.app.state.services.log.flush()
    written = "".join(capsys.readouterr())
    assert PASSWORD not in broken.text + refused.text + written


ODD = [
    (200, b"<html>log in</html>"),
    (200, b"{}"),
    (200, b"[]"),
    (200, b'{"access_token": 5}'),
    (422, b'{"detail": [{"loc": ["body"], "msg": "bad", "input": SENT}]}'),
    (401, b'{"detail": "no: SENT"}'),
    (500, b'["x"]'),
    (500, b"<html>SENT</html>"),
    (500, b"\xff"),
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_answer_to_the_login_is_502_and_repeats_nothing(
    retrainer: Service, airflow: Airflow, odd: tuple[int, bytes]
) -> None:
    airflow.odd_login = odd
    answer = order(retrainer)
    assert (answer.status_code, answer.json()["code"]) == (502, "airflow-refused")
    assert PASSWORD not in answer.text
    assert "admin" not in answer.text


@pytest.mark.parametrize("odd", [(200, b"<html>"), (200, b"{}"), (200, b"[]"), (500, b'["x"]')])
def test_an_odd_answer_about_a_run_is_502(
    retrainer: Service, airflow: Airflow, odd: tuple[int, bytes]
) -> None:
    airflow.odd_run = odd
    answer = order(retrainer)
    assert (answer.status_code, answer.json()["code"]) == (502, "airflow-refused")


def test_of_a_list_of_errors_only_place_and_message_are_told(
    retrainer: Service, airflow: Airflow
) -> None:
    wrong = {"loc": ["body", "conf"], "msg": "Field required", "input": "canary", "ctx": "canary"}
    airflow.odd_run = (422, json.dumps({"detail": [wrong, "canary"]}).encode())
    answer = order(retrainer)
    assert "body.conf Field required." in answer.json()["detail"]
    assert "canary" not in answer.text


def test_neither_address_nor_file_nor_operators_advice_reaches_a_caller(
    start: Callable[..., Service], tmp_path: Any
) -> None:
    (tmp_path / "password").mkdir()
    unreadable = start(airflow_password_file=tmp_path / "password")
    (tmp_path / "other").write_text(PASSWORD)
    named = {"airflow_password_file": tmp_path / "other"}
    away = start(airflow_url="http://bob:canary@127.0.0.1:9", **named)
    wrong = start(airflow_url="http://bob:canary@[::1", **named)
    for service in (unreadable, away, wrong):
        answer = order(service)
        assert (answer.status_code, answer.json()["code"]) == (503, "airflow-away")
        assert answer.json()["detail"] == (
            "Airflow does not answer. Send the same Idempotency-Key again."
        )


def test_a_slow_airflow_keeps_nothing_else_waiting(retrainer: Service, airflow: Airflow) -> None:
    airflow.released.clear()
    calls = retrainer.app.state.services.airflow
    calls._seconds = 1.0
    path = f"/v1/retrain/{run_id_of('x', 'y')}"

    async def ask() -> tuple[float, list[int]]:
        asked = [
            asyncio.ensure_future(retrainer.ask("GET", path, headers={"X-API-Key": KEY}))
            for _ in range(40)
        ]
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        await asyncio.to_thread(lambda: None)
        took = time.monotonic() - begun
        return took, [answer.status_code for answer in await asyncio.gather(*asked)]

    begun = time.monotonic()
    took, statuses = retrainer.run(ask())
    assert took < 0.5
    assert statuses == [503] * 40
    assert time.monotonic() - begun < 3
    airflow.released.set()
    deadline = time.monotonic() + 10
    while order(retrainer).status_code != 202:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("key", [None, "", " ", "x" * 129, "a\tb"])
def test_an_idempotency_key_is_needed(
    retrainer: Service, airflow: Airflow, key: str | None
) -> None:
    answer = order(retrainer, key)
    assert (answer.status_code, answer.json()["code"]) == (400, "header-refused")
    assert airflow.runs == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ("[]", 422),
        ({"as_of": "yesterday"}, 422),
        ({"as_of": 5}, 422),
        ({"require_approval": "yes"}, 422),
        ({"promote_backfill": True}, 422),
        ('{"require_approval": true, "require_approval": false}', 422),
        ({"as_of": "9" * 5000}, 413),
    ],
)
def test_an_order_that_cannot_be_read_starts_nothing(
    retrainer: Service, airflow: Airflow, body: Any, status: int
) -> None:
    assert order(retrainer, body=body).status_code == status
    assert airflow.runs == {}


def test_twenty_at_once_with_one_key_start_one_run(retrainer: Service, airflow: Airflow) -> None:
    settings = retrainer.app.state.services.settings
    with ThreadPoolExecutor(20) as pool:
        runs = list(
            pool.map(lambda _: Retraining(settings).start(RetrainOrder(), "k", "c"), range(20))
        )
    assert len({run.id for run, _ in runs}) == len(airflow.runs) == 1
    assert [found for _, found in runs].count("new") == 1


def test_run_ids_of_callers_do_not_meet() -> None:
    assert run_id_of("bc", "a") != run_id_of("c", "ab")
    assert is_run_id(run_id_of("x", "y"))
