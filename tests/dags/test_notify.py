"""The failure notifier: names leave the machine, values do not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from bc_airflow.notify import notify_failure, notify_refused_input

from bc_pipeline.errors import ExpectationsFailed

SECRET = "patient 842302 has radius 17.99"


class Hook:
    def __init__(self, status: int) -> None:
        self.received: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.received.append(json.loads(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Silence."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/s3cret"


@pytest.fixture(params=[200])
def hook(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    made = Hook(request.param)
    monkeypatch.setenv("BC_ALERT_WEBHOOK_URL", made.url)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def context(error: Any) -> dict[str, Any]:
    task = SimpleNamespace(
        dag_id="wdbc_retrain",
        run_id="manual__1",
        task_id="train",
        map_index=2,
        try_number=1,
        log_url="http://127.0.0.1/log",
    )
    return {"ti": task, "exception": error}


def test_the_webhook_gets_names_and_no_values(hook: Hook) -> None:
    with structlog.testing.capture_logs() as logs:
        notify_failure(context(ExpectationsFailed(SECRET, suite="labelled")))
    (posted,) = hook.received
    assert posted == {
        "text": "wdbc_retrain: task train failed (ExpectationsFailed)",
        "dag_id": "wdbc_retrain",
        "run_id": "manual__1",
        "task_id": "train",
        "map_index": 2,
        "try_number": 1,
        "error": "ExpectationsFailed",
        "error_code": "expectations-failed",
        "log_url": "http://127.0.0.1/log",
    }
    assert [(line["event"], line["log_level"], line["task_id"]) for line in logs] == [
        ("task_failed", "error", "train")
    ]
    assert SECRET not in json.dumps([posted, logs])
    one = {"refused": [], "newly_quarantined": [{"quarantined": 1}], "held": ["b"]}
    notify_refused_input(context(None), one)
    text = hook.received[-1]["text"]
    assert text == "wdbc_retrain: 0 landed files refused, 1 row quarantined, 1 batch held"


def test_an_error_outside_the_taxonomy_has_no_code(hook: Hook) -> None:
    notify_failure(context(KeyError(SECRET)))
    assert (hook.received[0]["error"], hook.received[0]["error_code"]) == ("KeyError", None)


def test_a_killed_task_has_no_error_of_its_own(hook: Hook) -> None:
    notify_failure(context(None))
    assert hook.received[0]["error"] == "unknown"


@pytest.mark.parametrize("hook", [500], indirect=True)
def test_a_webhook_that_refuses_is_logged_without_its_url(hook: Hook) -> None:
    with structlog.testing.capture_logs() as logs:
        notify_failure(context(ValueError(SECRET)))
    assert logs[-1] == {
        "event": "alert_not_delivered",
        "error": "HTTPStatusError",
        "log_level": "error",
    }
    assert "s3cret" not in json.dumps(logs)


def test_without_a_webhook_it_only_logs() -> None:
    with structlog.testing.capture_logs() as logs:
        notify_failure(context(ValueError(SECRET)))
    assert [line["event"] for line in logs] == ["task_failed"]


def test_refused_input_is_announced_by_counts_without_names_of_files(hook: Hook) -> None:
    ingested = {
        "refused": [{"file": SECRET, "code": "file-refused", "reason": SECRET}] * 2,
        "newly_quarantined": [{"source": SECRET, "quarantined": 3}, {"quarantined": 2}],
        "notes": [SECRET],
    }
    with structlog.testing.capture_logs() as logs:
        notify_refused_input(context(None), ingested)
    (posted,) = hook.received
    assert posted["text"] == "wdbc_retrain: 2 landed files refused, 5 rows quarantined"
    assert (posted["files_refused"], posted["rows_quarantined"]) == (2, 5)
    assert posted["error_codes"] == ["file-refused"]
    assert [(line["event"], line["log_level"]) for line in logs] == [("input_refused", "warning")]
    assert SECRET not in json.dumps([posted, logs])
