"""Probes and the health report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bc_pipeline.errors import RecordsAway
from bc_pipeline.prediction_log.status import Status, write_status
from bc_pipeline.serving.model.model_watcher import ModelRefusal, ModelWatcher
from bc_pipeline.serving.telemetry.readiness import SILENT_SECONDS, is_ready

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def report(service: Any, database: Any = "ok", **changes: Any) -> None:
    settings = service.app.state.services.settings
    facts = {"since": 1_794_700_800.0, "written_at": time.time()} | changes
    write_status(settings.records, Status(database, **facts))


def break_log(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the prediction log report a full disk."""
    spool = service.app.state.services.spool
    healthy = spool.state()
    full = type(healthy)(writable=False, backlog=77, error="No space left on device")
    monkeypatch.setattr(spool, "state", lambda: full)


class TestLivez:
    def test_it_needs_neither_model_nor_log(self, start: Callable[..., Any]) -> None:
        answer = start().get("/livez")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


class TestReadyz:
    def test_it_names_every_part(self, service: Any) -> None:
        report(service)
        answer = service.get("/readyz")
        assert answer.status_code == 200
        assert answer.json() == {
            "status": "ok",
            "model_version": "v1",
            "parts": {"model": "ok", "log": "ok", "database": "ok"},
        }

    def test_without_a_model_it_is_503(self, start: Callable[..., Any]) -> None:
        answer = start().get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"]
        assert answer.json()["code"] == "no-champion"
        assert answer.json()["parts"]["model"] == "no verified model"
        assert answer.json()["parts"]["log"] == "ok"

    def test_without_a_writable_log_it_is_503(
        self, service: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        break_log(service, monkeypatch)
        answer = service.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["code"] == RecordsAway.code
        assert answer.json()["parts"]["model"] == "ok"
        assert answer.json()["parts"]["log"] == "No space left on device"

    def test_an_unavailable_database_is_reported_but_the_service_is_ready(
        self, service: Any, reference: Any
    ) -> None:
        report(service, "away", error="refused")
        answer = service.get("/readyz")
        assert answer.status_code == 200
        assert answer.json()["parts"]["database"] == "away"
        assert service.predict({"features": reference[0][0].tolist()}).status_code == 200

    def test_the_last_report_of_a_silent_drainer_is_not_used(self, service: Any) -> None:
        report(service, written_at=time.time() - SILENT_SECONDS - 1)
        assert service.get("/readyz").json()["parts"]["database"] == "unknown"

    def test_without_a_report_the_database_is_unknown(self, service: Any) -> None:
        assert service.get("/readyz").json()["parts"]["database"] == "unknown"

    def test_is_ready_agrees_with_it(self, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        services = service.app.state.services
        assert is_ready(service.model.current, services.spool)
        assert services.readiness().error is None
        break_log(service, monkeypatch)
        assert not is_ready(service.model.current, services.spool)
        assert services.readiness().error is not None


class TestHealth:
    def test_it_reports_the_model_the_prediction_log_and_refusals(
        self, service: Any, releases: Any
    ) -> None:
        report(service, "away", error="refused", oldest=12.0, damaged=2)
        releases.promote("v1", "0" * 64)
        service.model.refresh()
        facts = service.get("/health").json()
        assert facts["status"] == "ok"
        assert facts["model_version"] == "v1"
        assert facts["generation"] == 1
        assert facts["refused"]["count"] == 1
        assert facts["refused"]["last"]["version"] == "v1"
        records = facts["records"]
        assert records["database"] == "away"
        assert records["database_since"] == "2026-11-15T00:00:00Z"
        assert records["database_error"] == "refused"
        assert records["oldest_waiting_seconds"] == pytest.approx(12, abs=2)
        assert records["damaged"] == 2

    def test_it_answers_while_a_refusal_is_reset(
        self, service: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusal = ModelRefusal(version="v1", code="unreadable", reason="", at="")
        # The watcher resets it in another thread, here right after it is read once.
        values = iter([refusal])

        def read(_: ModelWatcher) -> ModelRefusal | None:
            in_endpoint = threading.current_thread() is not threading.main_thread()
            return next(values, None) if in_endpoint else None

        attribute = property(read, lambda _watcher, _refusal: None)
        monkeypatch.setattr(ModelWatcher, "last_refusal", attribute, raising=False)
        answer = service.get("/health")
        assert answer.status_code == 200
        assert answer.json()["refused"]["last"]["version"] == "v1"

    def test_it_is_503_where_readyz_is(self, start: Callable[..., Any]) -> None:
        service = start()
        for accept, kind in (("*/*", "application/problem+json"), (BROWSER, "text/html")):
            answer = service.request("GET", "/health", headers={"Accept": accept})
            assert answer.status_code == 503
            assert answer.headers["content-type"].startswith(kind)

    def test_a_browser_gets_a_page_that_needs_no_other_host(self, service: Any) -> None:
        report(service)
        answer = service.request("GET", "/health", headers={"Accept": BROWSER})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script" not in policy
        assert "Predictions are answered." in answer.text
        assert '<th scope="row">model version</th><td>v1</td>' in answer.text
        assert "http" not in answer.text

    def test_reported_texts_are_escaped(
        self, service: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report(service, "away", error="<script>alert(1)</script>")
        page = service.request("GET", "/health", headers={"Accept": BROWSER}).text
        assert "<script" not in page
        assert "&lt;script&gt;" in page

    def test_the_default_is_json(self, service: Any) -> None:
        assert service.get("/health").headers["content-type"] == "application/json"

    def test_no_path_of_the_machine_is_shown(
        self, service: Any, releases: Any, tmp_path: Any
    ) -> None:
        releases.promote("v1", "0" * 64)
        service.model.refresh()
        assert str(tmp_path) not in service.get("/health").text
