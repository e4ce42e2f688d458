"""Counting, and what a scrape is told of it."""

from __future__ import annotations

import asyncio
import errno
import json
import subprocess
import sys
import timeit
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from bc_pipeline.errors import KeyRefused, RateLimited, SchemaMismatch, ScopeMissing
from bc_pipeline.records.status import OutcomeCounts, Status, write_status
from bc_pipeline.serving.telemetry import exposition
from bc_pipeline.serving.telemetry.exposition import VERSIONS
from bc_pipeline.serving.telemetry.metrics import FOLDER_VARIABLE, Metrics, forget_worker

HEADERS = {"X-API-Key": "test-key-of-the-unit-tests"}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(families: Any) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def scrape(service: Any) -> Samples:
    answer = service.request("GET", "/metrics", headers=HEADERS)
    assert answer.status_code == 200
    return samples_of(parse_text(answer.text))


def published(metrics: Metrics) -> Samples:
    metrics.publish()
    return samples_of(metrics.collect())


def describe(metrics: Metrics, version: str = "v1", loaded_at: float = 1.0, **changes: Any) -> None:
    model = {"model_version": version, "manifest": "m", "candidate": "c", "generation": "1"}
    facts: dict[str, Any] = {
        "ready": True,
        "model": model,
        "loaded_at": loaded_at,
        "refused": False,
        "refusals": {},
    }
    metrics.describe(**facts | changes)


class TestCounting:
    def test_requests_are_counted_by_route_method_and_status(self) -> None:
        metrics = Metrics()
        for status in (200, 200, 422):
            metrics.answered("/v1/predict", "POST", status, 0.003)
        found = published(metrics)
        labels = {"route": "/v1/predict", "method": "POST"}
        assert found[key("bc_http_requests_total", **labels, status="200")] == 2
        assert found[key("bc_http_requests_total", **labels, status="422")] == 1
        assert published(metrics) == found

    def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass(self) -> None:
        metrics = Metrics()
        for seconds in (0.0, 0.001, 0.0011, 60.0):
            metrics.answered("/", "GET", 200, seconds)
        found = published(metrics)
        buckets = {
            dict(labels)["le"]: value
            for (name, labels), value in found.items()
            if name == "bc_http_request_duration_seconds_bucket"
        }
        assert buckets["0.0005"] == 1
        assert buckets["0.001"] == 2
        assert buckets["0.0025"] == 3
        assert buckets["10.0"] == 3
        assert buckets["+Inf"] == 4
        name = "bc_http_request_duration_seconds"
        assert found[key(f"{name}_count", route="/")] == 4
        assert found[key(f"{name}_sum", route="/")] == pytest.approx(60.0021)

    def test_requests_in_flight_go_up_and_down(self) -> None:
        metrics = Metrics()
        metrics.in_flight += 2
        assert published(metrics)[key("bc_http_requests_in_flight")] == 2
        metrics.answered("/", "GET", 200, 0.1)
        assert published(metrics)[key("bc_http_requests_in_flight")] == 1

    def test_predictions_are_counted_by_version_and_call(self) -> None:
        metrics = Metrics()
        metrics.predicted("v1", 2, 5)
        metrics.predicted("v1", 1, 1)
        metrics.predicted("v2", 0, 1)
        found = published(metrics)
        counts = {
            (version, call): found[key("bc_predictions_total", model_version=version, call=call)]
            for version in ("v1", "v2")
            for call in ("positive", "negative")
        }
        assert counts == {
            ("v1", "positive"): 3,
            ("v1", "negative"): 3,
            ("v2", "positive"): 0,
            ("v2", "negative"): 1,
        }

    def test_refusals_are_counted_by_what_was_wrong(self) -> None:
        metrics = Metrics()
        metrics.refused(KeyRefused("No.", reason="expired"))
        metrics.refused(ScopeMissing("No.", scope="read"))
        metrics.refused(RateLimited("No.", kind="address"))
        metrics.refused(SchemaMismatch("No."))
        found = published(metrics)
        assert found[key("bc_auth_failures_total", reason="expired")] == 1
        assert found[key("bc_auth_failures_total", reason="scope")] == 1
        assert found[key("bc_rate_limited_total", kind="address")] == 1
        for code in ("key-refused", "scope-missing", "rate-limited", "schema-mismatch"):
            assert found[key("bc_problems_total", code=code)] == 1

    def test_refused_models_are_counted_once(self) -> None:
        metrics = Metrics()
        describe(metrics, refusals={"signature-invalid": 2}, refused=True)
        describe(metrics, refusals={"signature-invalid": 3}, refused=True)
        found = published(metrics)
        assert found[key("bc_model_refusals_total", code="signature-invalid")] == 3
        assert found[key("bc_model_refused")] == 1

    def test_cpu_time_only_grows(self) -> None:
        metrics = Metrics()
        describe(metrics)
        first = published(metrics)[key("process_cpu_seconds_total")]
        describe(metrics)
        assert published(metrics)[key("process_cpu_seconds_total")] >= first > 0
        assert published(metrics)[key("process_resident_memory_bytes")] > 1_000_000


WORKER = """
import json, sys
from bc_pipeline.serving.telemetry.metrics import Metrics
metrics = Metrics(sys.argv[5])
for step in json.loads(sys.argv[1]):
    getattr(metrics, step[0])(*step[1:])
metrics.in_flight = 2
metrics.describe(
    ready=sys.argv[2] == "ready",
    model={"model_version": sys.argv[3], "manifest": "m", "candidate": "c", "generation": "1"},
    loaded_at=float(sys.argv[4]), refused=False, refusals={"signature-invalid": 1},
)
metrics.publish()
"""


class TestManyWorkers:
    """Real processes that share a folder, as the launcher starts them."""

    @pytest.fixture
    def environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
        return tmp_path

    def work(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-c", WORKER, *arguments], capture_output=True, check=True, timeout=60
        )

    def read(self, folder: Path) -> Samples:
        return samples_of(MultiProcessCollector(None, str(folder)).collect())

    def test_what_they_counted_is_added_and_survives_them(self, environment: Path) -> None:
        steps = json.dumps([["answered", "/", "GET", 200, 0.002], ["predicted", "v1", 1, 3]])
        self.work(steps, "ready", "v1", "1", "worker-1")
        self.work(steps, "not", "v2", "2", "worker-2")
        found = self.read(environment)
        assert found[key("bc_http_requests_total", route="/", method="GET", status="200")] == 2
        assert found[key("bc_http_request_duration_seconds_count", route="/")] == 2
        assert found[key("bc_predictions_total", model_version="v1", call="negative")] == 4
        assert found[key("bc_model_refusals_total", code="signature-invalid")] == 2
        assert found[key("bc_http_requests_in_flight")] == 4
        assert found[key("bc_workers")] == 2
        assert found[key("bc_ready")] == 0
        cpu = found[key("process_cpu_seconds_total")]
        assert cpu > 0
        forget_worker("worker-1")
        found = self.read(environment)
        assert found[key("bc_http_requests_total", route="/", method="GET", status="200")] == 2
        assert found[key("bc_http_requests_in_flight")] == 2
        assert found[key("bc_workers")] == 1
        assert found[key("process_cpu_seconds_total")] == cpu

    def test_one_that_is_not_ready_is_seen_until_it_has_ended(self, environment: Path) -> None:
        self.work("[]", "ready", "v1", "1", "worker-1")
        self.work("[]", "not", "v1", "1", "worker-2")
        assert self.read(environment)[key("bc_ready")] == 0
        forget_worker("worker-2")
        assert self.read(environment)[key("bc_ready")] == 1

    def test_one_that_takes_another_s_place_counts_on_in_its_files(self, environment: Path) -> None:
        steps = json.dumps([["answered", "/", "GET", 200, 0.002], ["predicted", "v1", 1, 3]])
        requests = key("bc_http_requests_total", route="/", method="GET", status="200")
        self.work(steps, "ready", "v1", "1", "worker-1")
        cpu = self.read(environment)[key("process_cpu_seconds_total")]
        files = sorted(environment.iterdir())
        for count in range(2, 4):
            forget_worker("worker-1")
            assert self.read(environment)[requests] == count - 1
            self.work(steps, "ready", "v1", "1", "worker-1")
            found = self.read(environment)
            assert found[requests] == count
            assert found[key("bc_http_request_duration_seconds_count", route="/")] == count
            assert found[key("bc_predictions_total", model_version="v1", call="negative")] == (
                2 * count
            )
            assert found[key("bc_workers")] == 1
            assert found[key("bc_http_requests_in_flight")] == 2
            assert found[key("process_cpu_seconds_total")] > cpu
            cpu = found[key("process_cpu_seconds_total")]
        assert sorted(environment.iterdir()) == files

    def test_forgetting_needs_no_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
        forget_worker("worker-1")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyError()])
def test_nothing_ends_the_publishing(
    service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    services = service.app.state.services
    services.metrics.folder = tmp_path
    tries: list[int] = []

    def fail(given: Any) -> None:
        tries.append(1)
        raise error

    monkeypatch.setattr(exposition, "observe", fail)
    monkeypatch.setattr(exposition, "PUBLISH_SECONDS", 0.001)

    async def main() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(exposition.watch(services), 0.2)

    asyncio.run(main())
    services.metrics.folder = None
    assert len(tries) > 1


def test_what_a_version_answered_stays_told_when_another_takes_over(
    service: Any, releases: Any, fitted: Any, reference: Any
) -> None:
    """Though nobody asked between the two."""
    service.predict({"features": reference[0][0].tolist()})
    service.wait(2 * exposition.PUBLISH_SECONDS)
    releases.publish("v2", fitted[1])
    releases.promote("v2")
    service.model.refresh()
    found = scrape(service)
    assert found[key("bc_predictions_total", model_version="v1", call="positive")] == 1


class TestScrape:
    def test_a_prediction_is_seen(self, service: Any, reference: Any) -> None:
        assert service.predict({"features": reference[0][0].tolist()}).status_code == 200
        found = scrape(service)
        labels = {"route": "/predict", "method": "POST", "status": "200"}
        assert found[key("bc_http_requests_total", **labels)] == 1
        assert found[key("bc_predictions_total", model_version="v1", call="positive")] == 1
        assert found[key("bc_ready")] == 1
        # The scrape itself is under way.
        assert found[key("bc_http_requests_in_flight")] == 1

    def test_the_model_is_described(self, service: Any) -> None:
        found = scrape(service)
        (info,) = [dict(labels) for (name, labels) in found if name == "bc_model_info"]
        assert info["model_version"] == "v1"
        assert info["candidate"] == "logistic"
        assert info["generation"] == "1"
        assert len(info["manifest"]) == 12
        as_of = 1_794_700_800
        assert found[key("bc_model_data_as_of_timestamp_seconds")] == as_of
        assert found[key("bc_model_promoted_timestamp_seconds")] == as_of
        assert found[key("bc_model_evaluation", metric="f1")] == 0.9
        assert found[key("bc_model_decision_threshold_ratio")] == 0.4

    def test_only_the_model_that_answers_has_its_facts_told(
        self, service: Any, releases: Any, fitted: Any
    ) -> None:
        scrape(service)
        releases.publish("v2", fitted[1])
        releases.promote("v2")
        service.model.refresh()
        found = scrape(service)
        versions = {
            dict(labels)["model_version"] for name, labels in found if name == "bc_model_info"
        }
        assert versions == {"v2"}

    def test_warnings_are_counted_by_feature(self, service: Any, wdbc: Any, reference: Any) -> None:
        row = reference[0][0].tolist()
        position = wdbc.schema.names.index("smoothness_error")
        row[position] = float(reference[0][:, position].max()) * 1.01
        assert service.predict({"features": row}).json()["warnings"]
        assert scrape(service)[key("bc_prediction_warnings_total", feature="smoothness_error")] == 1

    def test_refusals_are_counted_on_both_ways_in(self, service: Any) -> None:
        service.request("POST", "/predict")
        service.request("GET", "/metrics")
        service.request("GET", "/metrics", headers={"X-API-Key": "wrong"})
        found = scrape(service)
        assert found[key("bc_auth_failures_total", reason="none")] == 2
        assert found[key("bc_auth_failures_total", reason="unknown")] == 1

    def test_requests_beyond_the_limit_are_counted_by_kind(
        self, releases: Any, fitted: Any, start: Callable[..., Any]
    ) -> None:
        releases.publish("v1", fitted[0])
        releases.promote("v1")
        service = start(rate_limit_failures="2/hour")
        for _ in range(4):
            service.get("/nowhere")
        assert service.get("/nowhere").status_code == 429
        metrics = service.app.state.services.metrics
        assert published(metrics)[key("bc_rate_limited_total", kind="failures")] == 3

    def test_addresses_that_are_not_there_are_one_route(self, service: Any) -> None:
        for number in range(5):
            service.get(f"/patients/{number}")
        found = scrape(service)
        routes = {
            dict(labels)["route"]
            for name, labels in found
            if name.startswith("bc_http") and "route" in dict(labels)
        }
        assert routes == {"(other)"}

    def test_a_fault_is_counted_where_it_happened(
        self, service: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bc_pipeline.serving.routes.health.readiness", lambda given: 1 / 0)
        assert service.get("/readyz").status_code == 500
        labels = {"route": "/readyz", "method": "GET", "status": "500"}
        assert scrape(service)[key("bc_http_requests_total", **labels)] == 1

    def test_an_invented_method_is_no_label(self, service: Any) -> None:
        service.request("CANARYMETHOD", "/livez")
        methods = {
            dict(labels)["method"] for _, labels in scrape(service) if "method" in dict(labels)
        }
        assert methods == {"(other)"}

    def test_old_versions_are_left_out(self, service: Any) -> None:
        metrics = service.app.state.services.metrics
        for number in range(VERSIONS + 4):
            metrics.predicted(f"old-{number:02}", 1, 2)
            describe(metrics, f"old-{number:02}", loaded_at=number)
        found = scrape(service)
        versions = {
            dict(labels)["model_version"]
            for name, labels in found
            if name == "bc_predictions_total"
        }
        assert versions == {f"old-{number:02}" for number in range(5, VERSIONS + 4)}
        loaded = [name for name, _ in found if name == "bc_model_loaded_timestamp_seconds"]
        assert len(loaded) == VERSIONS

    def test_outcomes_and_the_state_of_the_records_come_from_the_drainer(
        self, service: Any
    ) -> None:
        services = service.app.state.services
        outcomes = {"v1": OutcomeCounts(tp=8, fn=2, fp=1, tn=9)}
        write_status(
            services.settings.records,
            Status("ok", since=1.0, oldest=3.0, damaged=1, outcomes=outcomes, written_at=2e9),
        )
        found = scrape(service)
        cells = {
            (dict(labels)["call"], dict(labels)["truth"]): value
            for (name, labels), value in found.items()
            if name == "bc_outcomes"
        }
        assert cells == {
            ("positive", "positive"): 8,
            ("negative", "positive"): 2,
            ("positive", "negative"): 1,
            ("negative", "negative"): 9,
        }
        assert found[key("bc_records_database_up")] == 1
        assert found[key("bc_records_damaged_total")] == 1
        assert found[key("bc_records_oldest_waiting_seconds")] == 3
        assert found[key("bc_records_backlog_limit_bytes")] == 1 << 30

    def test_a_silent_drainer_is_no_sign_of_health(self, service: Any) -> None:
        services = service.app.state.services
        write_status(services.settings.records, Status("ok", since=1.0, written_at=1.0))
        assert scrape(service)[key("bc_records_database_up")] == 0

    def test_openmetrics_is_spoken_where_it_is_asked_for(self, service: Any) -> None:
        service.predict(content=b"{")
        headers = HEADERS | {"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"}
        answer = service.request("GET", "/metrics", headers=headers)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert key("bc_ready") in samples_of(parse_open(answer.text))

    def test_the_default_is_plain_text(self, service: Any) -> None:
        answer = service.request("GET", "/metrics", headers=HEADERS)
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

    def test_a_key_is_needed(self, service: Any) -> None:
        assert service.get("/metrics").status_code == 401


class TestPerformance:
    def ask(self, service: Any) -> Any:
        headers = HEADERS | {"Accept": "application/json"}
        answer = service.request("GET", "/metrics", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        return answer.json()

    def test_the_model_and_what_it_answered(self, service: Any, reference: Any) -> None:
        service.predict({"features": reference[0][0].tolist()})
        found = self.ask(service)
        assert found["model"]["version"] == "v1"
        assert found["model"]["metrics"] == {"f1": 0.9}
        assert found["model"]["threshold"] == 0.4
        assert found["model"]["as_of"] == "2026-11-15T00:00:00Z"
        assert found["answered"] == {"v1": {"positive": 1, "negative": 0}}

    def test_what_turned_out_true(self, service: Any) -> None:
        services = service.app.state.services
        outcomes = {"v0": OutcomeCounts(tp=8, fn=2, fp=1, tn=9), "v1": OutcomeCounts(tn=1)}
        write_status(
            services.settings.records,
            Status("ok", since=1.0, outcomes=outcomes, written_at=1_794_700_800.0),
        )
        found = self.ask(service)
        assert found["outcomes_at"] == "2026-11-15T00:00:00Z"
        old, new = found["outcomes"]["v0"], found["outcomes"]["v1"]
        assert old["recall"]["value"] == 0.8
        # statsmodels' proportion_confint(8, 10, method="wilson").
        assert old["recall"]["low"] == pytest.approx(0.4901625, abs=1e-6)
        assert old["recall"]["high"] == pytest.approx(0.9433178, abs=1e-6)
        assert old["specificity"]["value"] == 0.9
        assert old["precision"]["value"] == pytest.approx(8 / 9)
        assert new["recall"] == {"value": None, "low": None, "high": None}

    def test_without_a_model_there_are_none_of_its_facts(self, start: Callable[..., Any]) -> None:
        found = self.ask(start())
        assert found["model"] is None
        assert found["outcomes_at"] is None


def test_counting_costs_a_request_next_to_nothing() -> None:
    metrics = Metrics()

    def count() -> None:
        metrics.answered("/v1/predict", "POST", 200, 0.0007)
        metrics.predicted("v1", 1, 1)

    # Half a microsecond on an idle machine; the best of many, as others use this one.
    assert min(timeit.repeat(count, number=2000, repeat=20)) / 2000 < 2.5e-6
