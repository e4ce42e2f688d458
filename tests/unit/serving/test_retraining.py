"""Retrain over HTTP, against a fake Airflow whose run ids are unique, as in the real one."""

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

from bc_pipeline.auth.key_store import list_keys
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.run_note import Concluded, add_lines
from bc_pipeline.serving.retraining import Retraining, RetrainOrder, derive_run_id, is_run_id
from tests.unit.serving.conftest import KEY, Service
from tests.waiting import PATIENCE

PASSWORD = "canary-of-the-airflow-password"
RUNS = "/api/v2/dags/wdbc_retrain/dagRuns"
APPROVALS = "/api/v2/dags/wdbc_approval/dagRuns"


class Airflow(ThreadingHTTPServer):
    """A fake of the endpoints that a retrain calls; `test_workflow` uses the real Airflow."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.approvals: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.password = PASSWORD
        self.broken = False
        self.is_paused = False
        # Status and body that replace the responses of the login and of the runs.
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
        self.server.calls.append(path)
        if path == RUNS:
            running = [run for run in self.server.runs.values() if run["state"] == "running"]
            self._send(200, {"dag_runs": running})
            return
        if path == "/api/v2/dags/wdbc_retrain":
            self._send(200, {"is_paused": self.server.is_paused})
            return
        if path.startswith(APPROVALS):
            run = self.server.approvals.get(path.removeprefix(APPROVALS + "/"))
        else:
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
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
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
    sent = {"X-API-Key": KEY} | headers
    if key is not None:
        sent["Idempotency-Key"] = key
    if body is not None:
        sent["Content-Type"] = "application/json"
    content = body if isinstance(body, str | None) else json.dumps(body)
    return service.request("POST", "/v1/retrain", headers=sent, content=content)


def test_the_same_key_starts_one_run(retrainer: Service, airflow: Airflow) -> None:
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


def test_options_are_passed_to_the_run(retrainer: Service, airflow: Airflow) -> None:
    body = {"as_of": "2026-11-15T01:00:00+01:00", "require_approval": True}
    run = order(retrainer, body=body).json()
    conf = airflow.runs[run["id"]]["conf"]
    assert {name: conf[name] for name in conf if name != "requested_by"} == {
        "as_of": "2026-11-15T00:00:00Z",
        "require_approval": True,
    }
    reused = order(retrainer, body={})
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency-key-reused")
    assert len(airflow.runs) == 1


def test_a_run_is_requested_by_the_key_and_no_client_can_say_another(
    retrainer: Service, airflow: Airflow
) -> None:
    (key,) = list_keys(retrainer.app.state.services.settings.service_keys)
    label = f"tests (API key {key.id})"
    started = order(retrainer).json()
    assert airflow.runs[started["id"]]["conf"] == {"requested_by": label}
    assert started["requested_by"] == label
    assert KEY not in json.dumps(airflow.runs)
    follow = f"/v1/retrain/{started['id']}"
    airflow.runs[started["id"]]["triggering_user_name"] = "admin"
    followed = retrainer.request("GET", follow, headers={"X-API-Key": KEY}).json()
    assert followed["requested_by"] == label
    assert order(retrainer, "k-2", body={"requested_by": "ada"}).status_code == 422
    # Not the service's user: somebody at Airflow's form wrote it.
    airflow.runs[started["id"]]["triggering_user_name"] = "ada"
    followed = retrainer.request("GET", follow, headers={"X-API-Key": KEY}).json()
    assert followed["requested_by"] == "ada"


def test_a_run_of_an_earlier_release_is_found_by_its_key(
    retrainer: Service, airflow: Airflow
) -> None:
    run = airflow.runs[order(retrainer).json()["id"]]
    run["conf"] = {}
    assert order(retrainer).status_code == 200


def test_a_run_can_be_followed(retrainer: Service) -> None:
    location = order(retrainer).headers["location"]
    found = retrainer.request("GET", location, headers={"X-API-Key": KEY}).json()
    assert [(task["task"], task["state"]) for task in found["tasks"]] == [
        ("ingest", "success"),
        ("validate", None),
    ]
    for name in ("manual__2026", derive_run_id("other", "x"), "api__" + "x" * 32, "..%2f..%2fx"):
        missing = retrainer.request("GET", f"/v1/retrain/{name}", headers={"X-API-Key": KEY})
        assert missing.status_code == 404


def test_a_run_that_ended_says_how_and_why(retrainer: Service, airflow: Airflow) -> None:
    started = order(retrainer)
    run = airflow.runs[started.json()["id"]]
    location, key = started.headers["location"], {"X-API-Key": KEY}
    run["note"] = add_lines("by Ada", ["a.csv"], Concluded(Conclusion.NOTHING_NEW, "Same rows."))
    followed = retrainer.request("GET", location, headers=key).json()
    assert (followed["conclusion"], followed["reason"]) == (None, None)
    run["state"] = "success"
    followed = retrainer.request("GET", location, headers=key).json()
    assert (followed["conclusion"], followed["reason"]) == ("nothing_new", "Same rows.")
    assert followed["notes"] == ["a.csv"]


def test_a_run_that_awaits_an_approval_follows_it_to_its_end(
    retrainer: Service, airflow: Airflow
) -> None:
    started = order(retrainer)
    run_id = started.json()["id"]
    waits = Concluded(Conclusion.AWAITING_APPROVAL, "It waits for a person.")
    airflow.runs[run_id] |= {"state": "success", "note": add_lines("", [], waits)}

    def follow() -> Any:
        airflow.calls.clear()
        answer = retrainer.request("GET", started.headers["location"], headers={"X-API-Key": KEY})
        assert len([path for path in airflow.calls if path.startswith(APPROVALS)]) == 1
        assert answer.status_code == 200
        assert answer.json()["conclusion"] == "awaiting_approval"
        return answer.json()["approval"]

    # Somebody deleted it, or Airflow's database was restored.
    assert follow() is None
    approval = {"dag_run_id": f"approval__{run_id}", "state": "running", "note": "by Ada"}
    airflow.approvals[approval["dag_run_id"]] = approval
    assert follow() == {
        "id": f"approval__{run_id}",
        "dag": "wdbc_approval",
        "state": "running",
        "started_at": None,
        "ended_at": None,
        "conclusion": None,
        "reason": None,
    }
    refused = Concluded(Conclusion.APPROVAL_REFUSED, "Ada rejected it.")
    ended = {"state": "success", "end_date": "2026-11-23T00:00:00Z"}
    approval |= ended | {"note": add_lines("by Ada", [], refused)}
    found = follow()
    assert (found["conclusion"], found["reason"]) == ("approval_refused", "Ada rejected it.")
    assert (found["state"], found["ended_at"]) == tuple(ended.values())


def test_a_queued_run_says_what_it_waits_for(retrainer: Service, airflow: Airflow) -> None:
    location = order(retrainer).headers["location"]
    key = {"X-API-Key": KEY}
    airflow.runs["scheduled__1"] = {"dag_run_id": "scheduled__1", "state": "running"}
    assert retrainer.request("GET", location, headers=key).json()["reason"] == (
        "Waits for run scheduled__1, which is running."
    )
    airflow.is_paused = True
    assert retrainer.request("GET", location, headers=key).json()["reason"] == (
        "The DAG wdbc_retrain is paused."
    )


def test_unreachable_airflow_is_503_and_the_same_key_works_later(
    retrainer: Service, airflow: Airflow, start: Callable[..., Service], tmp_path: Any
) -> None:
    unreachable = start(
        airflow_url="http://127.0.0.1:9", airflow_password_file=tmp_path / "password"
    )
    answer = order(unreachable)
    assert (answer.status_code, answer.json()["code"]) == (503, "airflow-away")
    assert "retry-after" in answer.headers
    assert order(retrainer).status_code == 202
    unset = start(airflow_password_file=tmp_path / "none")
    assert order(unset).status_code == 503


def test_an_error_of_airflow_is_502_without_secrets(
    retrainer: Service, airflow: Airflow, capsys: pytest.CaptureFixture[str]
) -> None:
    airflow.broken = True
    broken = order(retrainer)
    airflow.password = "another"
    refused = order(retrainer)
    for answer in (broken, refused):
        assert (answer.status_code, answer.json()["code"]) == (502, "airflow-refused")
    retrainer.app.state.services.access_log.flush()
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
def test_an_invalid_login_response_is_502_and_not_repeated(
    retrainer: Service, airflow: Airflow, odd: tuple[int, bytes]
) -> None:
    airflow.odd_login = odd
    answer = order(retrainer)
    assert (answer.status_code, answer.json()["code"]) == (502, "airflow-refused")
    assert PASSWORD not in answer.text
    assert "admin" not in answer.text


@pytest.mark.parametrize("odd", [(200, b"<html>"), (200, b"{}"), (200, b"[]"), (500, b'["x"]')])
def test_an_invalid_run_response_is_502(
    retrainer: Service, airflow: Airflow, odd: tuple[int, bytes]
) -> None:
    airflow.odd_run = odd
    answer = order(retrainer)
    assert (answer.status_code, answer.json()["code"]) == (502, "airflow-refused")


def test_validation_errors_of_airflow_show_only_location_and_message(
    retrainer: Service, airflow: Airflow
) -> None:
    wrong = {"loc": ["body", "conf"], "msg": "Field required", "input": "canary", "ctx": "canary"}
    airflow.odd_run = (422, json.dumps({"detail": [wrong, "canary"]}).encode())
    answer = order(retrainer)
    assert "body.conf Field required." in answer.json()["detail"]
    assert "canary" not in answer.text


def test_connection_errors_show_no_address_or_file(
    start: Callable[..., Service], tmp_path: Any
) -> None:
    (tmp_path / "password").mkdir()
    unreadable = start(airflow_password_file=tmp_path / "password")
    (tmp_path / "other").write_text(PASSWORD)
    named = {"airflow_password_file": tmp_path / "other"}
    unreachable = start(airflow_url="http://bob:canary@127.0.0.1:9", **named)
    wrong = start(airflow_url="http://bob:canary@[::1", **named)
    for service in (unreadable, unreachable, wrong):
        answer = order(service)
        assert (answer.status_code, answer.json()["code"]) == (503, "airflow-away")
        assert answer.json()["detail"] == (
            "Airflow does not answer. Send the same Idempotency-Key again."
        )


def test_a_slow_airflow_blocks_nothing_else(retrainer: Service, airflow: Airflow) -> None:
    airflow.released.clear()
    calls = retrainer.app.state.services.airflow
    calls._seconds = 1.0
    path = f"/v1/retrain/{derive_run_id('x', 'y')}"

    async def ask() -> list[int]:
        requests = [
            asyncio.ensure_future(retrainer.ask("GET", path, headers={"X-API-Key": KEY}))
            for _ in range(40)
        ]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(lambda: None)
        # The threads of others are free while every request still waits for Airflow.
        assert not all(request.done() for request in requests)
        return [answer.status_code for answer in await asyncio.gather(*requests)]

    assert retrainer.run(ask()) == [503] * 40
    airflow.released.set()
    deadline = time.monotonic() + PATIENCE
    while order(retrainer).status_code != 202:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("key", [None, "", " ", "x" * 129, "a\tb"])
def test_a_missing_or_invalid_idempotency_key_is_refused(
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
        ({"as_of": "2099-01-01"}, 422),
        ({"as_of": "0001-01-01"}, 422),
        ({"require_approval": "yes"}, 422),
        ({"promote_backfill": True}, 422),
        ('{"require_approval": true, "require_approval": false}', 422),
        ({"as_of": "9" * 5000}, 413),
    ],
)
def test_an_invalid_body_starts_no_run(
    retrainer: Service, airflow: Airflow, body: Any, status: int
) -> None:
    assert order(retrainer, body=body).status_code == status
    assert airflow.runs == {}


def test_an_invalid_option_is_not_called_a_feature(retrainer: Service) -> None:
    answer = order(retrainer, body={"as_of": "yesterday"}).json()
    assert answer["title"] == "The input is not valid"
    assert answer["defects"] == [{"feature": "as_of", "reason": "is no ISO 8601 date or time"}]


def test_concurrent_requests_with_one_key_start_one_run(
    retrainer: Service, airflow: Airflow
) -> None:
    settings = retrainer.app.state.services.settings
    with ThreadPoolExecutor(20) as pool:
        runs = list(
            pool.map(lambda _: Retraining(settings).start(RetrainOrder(), "k", None), range(20))
        )
    assert len({run.id for run, _ in runs}) == len(airflow.runs) == 1
    assert [state for _, state in runs].count("new") == 1


def test_run_ids_of_different_callers_differ() -> None:
    assert derive_run_id("bc", "a") != derive_run_id("c", "ab")
    assert is_run_id(derive_run_id("x", "y"))
