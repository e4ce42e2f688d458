"""Counters, their publication by several workers, and the answer to a scrape."""

from __future__ import annotations

import asyncio
import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text
from structlog.testing import capture_logs

from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.signed_bundle import EVALUATION
from bc_pipeline.background_loop import BackgroundLoop
from bc_pipeline.errors import KeyRefused, RateLimited, SchemaMismatch, ScopeMissing
from bc_pipeline.prediction_log.status import OutcomeCounts, RecentOutcomes, Status, write_status
from bc_pipeline.server.metrics_folder import forget_worker
from bc_pipeline.serving.services import Services
from bc_pipeline.serving.telemetry.exposition import VERSIONS, Exposition
from bc_pipeline.serving.telemetry.metrics import FOLDER_VARIABLE, Metrics
from tests.cpu_time import cpu_cost
from tests.waiting import PATIENCE

EVALUATED = (
    Path(__file__).parents[3] / "contract/fixtures/store_1/models/wdbc/versions"
    "/20261121T181639Z-logistic-2a39830e8e/evaluation.json"
)
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


def publish_evaluated(releases: Any, name: str, fit: Any) -> None:
    """Publish a version whose evaluation says the net benefit of calling every row."""
    folder = releases.challenger(name, fit)
    evaluation = json.loads(EVALUATED.read_bytes())
    evaluation["challenger"]["holdout"]["treat_all"] = 0.345
    (folder / EVALUATION).write_text(json.dumps(evaluation))
    versions.publish(releases.store, releases.draft(name), folder, releases.settings.signing_key)


def set_state(
    metrics: Metrics, version: str = "v1", loaded_at: float = 1.0, **changes: Any
) -> None:
    model = {"model_version": version, "manifest": "m", "candidate": "c", "generation": "1"}
    state: dict[str, Any] = {
        "ready": True,
        "model": model,
        "loaded_at": loaded_at,
        "refused": False,
        "refusals": {},
    }
    metrics.set_state(**state | changes)


class TestCounting:
    def test_requests_are_counted_by_route_method_and_status(self) -> None:
        metrics = Metrics()
        for status in (200, 200, 422):
            metrics.count_request("/v1/predict", "POST", status, 0.003)
        samples = published(metrics)
        labels = {"route": "/v1/predict", "method": "POST"}
        assert samples[key("bc_http_requests_total", **labels, status="200")] == 2
        assert samples[key("bc_http_requests_total", **labels, status="422")] == 1
        assert published(metrics) == samples

    def test_bucket_bounds_are_inclusive(self) -> None:
        metrics = Metrics()
        for seconds in (0.0, 0.001, 0.0011, 60.0):
            metrics.count_request("/", "GET", 200, seconds)
        samples = published(metrics)
        buckets = {
            dict(labels)["le"]: value
            for (name, labels), value in samples.items()
            if name == "bc_http_request_duration_seconds_bucket"
        }
        assert buckets["0.0005"] == 1
        assert buckets["0.001"] == 2
        assert buckets["0.0025"] == 3
        assert buckets["10.0"] == 3
        assert buckets["+Inf"] == 4
        name = "bc_http_request_duration_seconds"
        assert samples[key(f"{name}_count", route="/")] == 4
        assert samples[key(f"{name}_sum", route="/")] == pytest.approx(60.0021)

    def test_requests_in_flight_go_up_and_down(self) -> None:
        metrics = Metrics()
        metrics.in_flight += 2
        assert published(metrics)[key("bc_http_requests_in_flight")] == 2
        metrics.count_request("/", "GET", 200, 0.1)
        assert published(metrics)[key("bc_http_requests_in_flight")] == 1

    def test_predictions_are_counted_by_version_and_call(self) -> None:
        metrics = Metrics()
        metrics.count_predictions("v1", 2, 5)
        metrics.count_predictions("v1", 1, 1)
        metrics.count_predictions("v2", 0, 1)
        samples = published(metrics)
        counts = {
            (version, call): samples[key("bc_predictions_total", model_version=version, call=call)]
            for version in ("v1", "v2")
            for call in ("positive", "negative")
        }
        assert counts == {
            ("v1", "positive"): 3,
            ("v1", "negative"): 3,
            ("v2", "positive"): 0,
            ("v2", "negative"): 1,
        }

    def test_errors_are_counted_by_code_and_reason(self) -> None:
        metrics = Metrics()
        metrics.count_error(KeyRefused("No.", reason="expired"))
        metrics.count_error(ScopeMissing("No.", scope="read"))
        metrics.count_error(RateLimited("No.", kind="address"))
        metrics.count_error(SchemaMismatch("No."))
        samples = published(metrics)
        assert samples[key("bc_auth_failures_total", reason="expired")] == 1
        assert samples[key("bc_auth_failures_total", reason="scope")] == 1
        assert samples[key("bc_rate_limited_total", kind="address")] == 1
        for code in ("key-refused", "scope-missing", "rate-limited", "schema-mismatch"):
            assert samples[key("bc_problems_total", code=code)] == 1

    def test_model_refusals_are_added_once(self) -> None:
        metrics = Metrics()
        set_state(metrics, refusals={"signature-invalid": 2}, refused=True)
        set_state(metrics, refusals={"signature-invalid": 3}, refused=True)
        samples = published(metrics)
        assert samples[key("bc_model_refusals_total", code="signature-invalid")] == 3
        assert samples[key("bc_model_refused")] == 1

    def test_cpu_time_only_grows(self) -> None:
        metrics = Metrics()
        set_state(metrics)
        first = published(metrics)[key("process_cpu_seconds_total")]
        set_state(metrics)
        assert published(metrics)[key("process_cpu_seconds_total")] >= first > 0
        assert published(metrics)[key("process_resident_memory_bytes")] > 1_000_000


WORKER = """
import json, sys
from bc_pipeline.serving.telemetry.metrics import Metrics
metrics = Metrics(sys.argv[5])
for step in json.loads(sys.argv[1]):
    getattr(metrics, step[0])(*step[1:])
metrics.in_flight = 2
metrics.set_state(
    ready=sys.argv[2] == "ready",
    model={"model_version": sys.argv[3], "manifest": "m", "candidate": "c", "generation": "1"},
    loaded_at=float(sys.argv[4]), refused=False, refusals={"signature-invalid": 1},
)
metrics.publish()
"""


class TestManyWorkers:
    """Processes that share a folder, like the workers that the launcher starts."""

    @pytest.fixture
    def environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
        return tmp_path

    def work(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-c", WORKER, *arguments],
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )

    def read(self, folder: Path) -> Samples:
        return samples_of(MultiProcessCollector(None, str(folder)).collect())

    def test_counts_are_added_up_and_outlive_a_worker(self, environment: Path) -> None:
        steps = json.dumps(
            [["count_request", "/", "GET", 200, 0.002], ["count_predictions", "v1", 1, 3]]
        )
        self.work(steps, "ready", "v1", "1", "worker-1")
        self.work(steps, "not", "v2", "2", "worker-2")
        samples = self.read(environment)
        assert samples[key("bc_http_requests_total", route="/", method="GET", status="200")] == 2
        assert samples[key("bc_http_request_duration_seconds_count", route="/")] == 2
        assert samples[key("bc_predictions_total", model_version="v1", call="negative")] == 4
        assert samples[key("bc_model_refusals_total", code="signature-invalid")] == 2
        assert samples[key("bc_http_requests_in_flight")] == 4
        assert samples[key("bc_workers")] == 2
        assert samples[key("bc_ready")] == 0
        cpu = samples[key("process_cpu_seconds_total")]
        assert cpu > 0
        forget_worker(str(environment), "worker-1")
        samples = self.read(environment)
        assert samples[key("bc_http_requests_total", route="/", method="GET", status="200")] == 2
        assert samples[key("bc_http_requests_in_flight")] == 2
        assert samples[key("bc_workers")] == 1
        assert samples[key("process_cpu_seconds_total")] == cpu

    def test_a_scrape_passes_over_the_file_that_a_starting_worker_just_created(
        self, environment: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.work("[]", "ready", "v1", "1", "worker-1")
        (environment / "gauge_livesum_worker-2.db").touch()
        monkeypatch.delenv(FOLDER_VARIABLE)
        scraped = Metrics()
        scraped.folder = environment
        assert samples_of(scraped.collect())[key("bc_workers")] == 1

    def test_a_worker_that_is_not_ready_shows_until_it_has_ended(self, environment: Path) -> None:
        self.work("[]", "ready", "v1", "1", "worker-1")
        self.work("[]", "not", "v1", "1", "worker-2")
        assert self.read(environment)[key("bc_ready")] == 0
        forget_worker(str(environment), "worker-2")
        assert self.read(environment)[key("bc_ready")] == 1

    def test_a_replacement_worker_counts_in_the_same_files(self, environment: Path) -> None:
        steps = json.dumps(
            [["count_request", "/", "GET", 200, 0.002], ["count_predictions", "v1", 1, 3]]
        )
        requests = key("bc_http_requests_total", route="/", method="GET", status="200")
        self.work(steps, "ready", "v1", "1", "worker-1")
        cpu = self.read(environment)[key("process_cpu_seconds_total")]
        files = sorted(environment.iterdir())
        for count in range(2, 4):
            forget_worker(str(environment), "worker-1")
            assert self.read(environment)[requests] == count - 1
            self.work(steps, "ready", "v1", "1", "worker-1")
            samples = self.read(environment)
            assert samples[requests] == count
            assert samples[key("bc_http_request_duration_seconds_count", route="/")] == count
            assert samples[key("bc_predictions_total", model_version="v1", call="negative")] == (
                2 * count
            )
            assert samples[key("bc_workers")] == 1
            assert samples[key("bc_http_requests_in_flight")] == 2
            assert samples[key("process_cpu_seconds_total")] > cpu
            cpu = samples[key("process_cpu_seconds_total")]
        assert sorted(environment.iterdir()) == files


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyError()])
def test_publishing_goes_on_after_an_error(
    service: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def main() -> None:
        calls, repeated = 0, asyncio.Event()

        def fail(_: Exposition) -> None:
            nonlocal calls
            calls += 1
            if calls > 1:
                repeated.set()
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(Exposition, "publish", fail)
            publish = service.app.state.services.exposition.publish
            task = asyncio.create_task(BackgroundLoop("metrics").run(0.001, publish))
            await asyncio.wait_for(repeated.wait(), PATIENCE)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_the_service_starts_although_nothing_can_be_published(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(exposition: Exposition) -> None:
        calls.append(exposition)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(Exposition, "publish", fail)
        service = start()
        first = len(calls)
        service.wait_until(lambda: len(calls) > first)
    assert service.get("/livez").status_code == 200
    # A lasting cause is logged once.
    assert [entry["loop"] for entry in logs if "loop" in entry] == ["metrics"]


def test_counts_of_a_version_survive_its_replacement_between_two_scrapes(
    service: Any, releases: Any, fitted: Any, reference: Any
) -> None:
    service.predict({"features": reference[0][0].tolist()})
    metrics = service.app.state.services.metrics
    predictions = key("bc_predictions_total", model_version="v1", call="positive")
    service.wait_until(lambda: predictions in samples_of(metrics.collect()))
    releases.publish("v2", fitted[1])
    releases.promote("v2")
    service.model.refresh()
    assert scrape(service)[predictions] == 1


class TestScrape:
    def test_a_prediction_is_counted(self, service: Any, reference: Any) -> None:
        assert service.predict({"features": reference[0][0].tolist()}).status_code == 200
        samples = scrape(service)
        labels = {"route": "/predict", "method": "POST", "status": "200"}
        assert samples[key("bc_http_requests_total", **labels)] == 1
        assert samples[key("bc_predictions_total", model_version="v1", call="positive")] == 1
        assert samples[key("bc_ready")] == 1
        # The scrape itself is in flight.
        assert samples[key("bc_http_requests_in_flight")] == 1

    def test_the_model_is_described(self, service: Any) -> None:
        samples = scrape(service)
        (info,) = [dict(labels) for (name, labels) in samples if name == "bc_model_info"]
        assert info["model_version"] == "v1"
        assert info["candidate"] == "logistic"
        assert info["generation"] == "1"
        assert len(info["manifest"]) == 12
        as_of = 1_794_700_800
        assert samples[key("bc_model_data_as_of_timestamp_seconds")] == as_of
        assert samples[key("bc_model_promoted_timestamp_seconds")] == as_of
        assert samples[key("bc_model_evaluation", metric="f1")] == 0.9
        assert samples[key("bc_model_decision_threshold_ratio")] == 0.4

    def test_net_benefit_stands_beside_that_of_calling_every_row(
        self, service: Any, releases: Any, fitted: Any
    ) -> None:
        assert key("bc_model_evaluation", metric="net_benefit_treat_all") not in scrape(service)
        publish_evaluated(releases, "v2", fitted[1])
        releases.promote("v2")
        service.model.refresh()
        samples = scrape(service)
        assert samples[key("bc_model_evaluation", metric="net_benefit_treat_all")] == 0.345
        assert samples[key("bc_model_evaluation", metric="f1")] == 0.9

    def test_damaged_evaluation_leaves_the_other_metrics(
        self, service: Any, releases: Any, fitted: Any
    ) -> None:
        publish_evaluated(releases, "v2", fitted[1])
        releases.promote("v2")
        service.model.refresh()
        (releases.store.version("v2") / EVALUATION).write_bytes(b"{}")
        samples = scrape(service)
        assert key("bc_model_evaluation", metric="net_benefit_treat_all") not in samples
        assert samples[key("bc_model_evaluation", metric="f1")] == 0.9

    def test_only_the_model_that_answers_is_described(
        self, service: Any, releases: Any, fitted: Any
    ) -> None:
        scrape(service)
        releases.publish("v2", fitted[1])
        releases.promote("v2")
        service.model.refresh()
        samples = scrape(service)
        versions = {
            dict(labels)["model_version"] for name, labels in samples if name == "bc_model_info"
        }
        assert versions == {"v2"}

    def test_warnings_are_counted_by_feature(self, service: Any, wdbc: Any, reference: Any) -> None:
        row = reference[0][0].tolist()
        position = wdbc.schema.names.index("smoothness_error")
        row[position] = float(reference[0][:, position].max()) * 1.01
        assert service.predict({"features": row}).json()["warnings"]
        assert scrape(service)[key("bc_prediction_warnings_total", feature="smoothness_error")] == 1

    def test_refused_credentials_are_counted_by_reason(self, service: Any) -> None:
        service.request("POST", "/predict")
        service.request("GET", "/metrics")
        service.request("GET", "/metrics", headers={"X-API-Key": "wrong"})
        samples = scrape(service)
        assert samples[key("bc_auth_failures_total", reason="none")] == 2
        assert samples[key("bc_auth_failures_total", reason="unknown")] == 1

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

    def test_unknown_paths_share_one_route_label(self, service: Any) -> None:
        for number in range(5):
            service.get(f"/patients/{number}")
        samples = scrape(service)
        routes = {
            dict(labels)["route"]
            for name, labels in samples
            if name.startswith("bc_http") and "route" in dict(labels)
        }
        assert routes == {"(other)"}

    def test_an_internal_error_is_counted_on_its_route(
        self, service: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Services, "readiness", lambda services: 1 / 0)
            assert service.get("/readyz").status_code == 500
        labels = {"route": "/readyz", "method": "GET", "status": "500"}
        assert scrape(service)[key("bc_http_requests_total", **labels)] == 1

    def test_an_unknown_method_is_not_a_label_of_its_own(self, service: Any) -> None:
        service.request("CANARYMETHOD", "/livez")
        methods = {
            dict(labels)["method"] for _, labels in scrape(service) if "method" in dict(labels)
        }
        assert methods == {"(other)"}

    def test_old_versions_are_left_out(self, service: Any) -> None:
        metrics = service.app.state.services.metrics
        for number in range(VERSIONS + 4):
            metrics.count_predictions(f"old-{number:02}", 1, 2)
            set_state(metrics, f"old-{number:02}", loaded_at=number)
        samples = scrape(service)
        versions = {
            dict(labels)["model_version"]
            for name, labels in samples
            if name == "bc_predictions_total"
        }
        assert versions == {f"old-{number:02}" for number in range(5, VERSIONS + 4)}
        loaded = [name for name, _ in samples if name == "bc_model_loaded_timestamp_seconds"]
        assert len(loaded) == VERSIONS

    def test_outcomes_and_the_log_s_state_come_from_the_drainer(self, service: Any) -> None:
        services = service.app.state.services
        outcomes = {"v1": OutcomeCounts(tp=8, fn=2, fp=1, tn=9)}
        write_status(
            services.settings.records,
            Status(
                "ok",
                since=1.0,
                oldest=3.0,
                damaged=1,
                outcomes=outcomes,
                recent_outcomes={"v1": RecentOutcomes(tp=3, fn=1, fp=0, tn=6, expected=3.75)},
                written_at=2e9,
            ),
        )
        samples = scrape(service)
        assert samples[key("bc_outcomes_recent_expected", model_version="v1")] == 3.75
        recent = {"model_version": "v1", "call": "positive", "truth": "positive"}
        assert samples[key("bc_outcomes_recent", **recent)] == 3
        cells = {
            (dict(labels)["call"], dict(labels)["truth"]): value
            for (name, labels), value in samples.items()
            if name == "bc_outcomes"
        }
        assert cells == {
            ("positive", "positive"): 8,
            ("negative", "positive"): 2,
            ("positive", "negative"): 1,
            ("negative", "negative"): 9,
        }
        assert samples[key("bc_records_database_up")] == 1
        assert samples[key("bc_records_damaged_total")] == 1
        assert samples[key("bc_records_oldest_waiting_seconds")] == 3
        assert samples[key("bc_records_backlog_limit_bytes")] == 1 << 30

    def test_a_silent_drainer_does_not_count_as_a_reachable_database(self, service: Any) -> None:
        services = service.app.state.services
        write_status(services.settings.records, Status("ok", since=1.0, written_at=1.0))
        assert scrape(service)[key("bc_records_database_up")] == 0

    def test_openmetrics_is_sent_when_accepted(self, service: Any) -> None:
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
        response = service.request("GET", "/metrics", headers=headers)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        return response.json()

    def test_the_model_and_its_predictions(self, service: Any, reference: Any) -> None:
        service.predict({"features": reference[0][0].tolist()})
        answer = self.ask(service)
        assert answer["model"]["version"] == "v1"
        assert answer["model"]["metrics"] == {"f1": 0.9}
        assert answer["model"]["threshold"] == 0.4
        assert answer["model"]["treat_all"] is None
        assert answer["model"]["as_of"] == "2026-11-15T00:00:00Z"
        assert answer["answered"] == {"v1": {"positive": 1, "negative": 0}}

    def test_net_benefit_of_calling_every_row(
        self, service: Any, releases: Any, fitted: Any
    ) -> None:
        publish_evaluated(releases, "v2", fitted[1])
        releases.promote("v2")
        service.model.refresh()
        assert self.ask(service)["model"]["treat_all"] == 0.345

    def test_outcomes_have_rates_with_intervals(self, service: Any) -> None:
        services = service.app.state.services
        outcomes = {"v0": OutcomeCounts(tp=8, fn=2, fp=1, tn=9), "v1": OutcomeCounts(tn=1)}
        write_status(
            services.settings.records,
            Status(
                "ok",
                since=1.0,
                outcomes=outcomes,
                recent_outcomes={
                    "v0": RecentOutcomes(tp=3, fn=1, expected=5.0),
                    "v1": RecentOutcomes(tn=1, expected=0.0),
                },
                written_at=1_794_700_800.0,
            ),
        )
        answer = self.ask(service)
        assert answer["outcomes_at"] == "2026-11-15T00:00:00Z"
        recent = answer["recent_outcomes"]["v0"]
        assert (recent["days"], recent["observed"], recent["expected"]) == (28, 4, 5.0)
        assert recent["observed_to_expected"] == 0.8
        assert recent["outcomes"]["recall"]["value"] == 0.75
        assert answer["recent_outcomes"]["v1"]["observed_to_expected"] is None
        old, new = answer["outcomes"]["v0"], answer["outcomes"]["v1"]
        assert old["recall"]["value"] == 0.8
        # statsmodels' proportion_confint(8, 10, method="wilson").
        assert old["recall"]["low"] == pytest.approx(0.4901625, abs=1e-6)
        assert old["recall"]["high"] == pytest.approx(0.9433178, abs=1e-6)
        assert old["specificity"]["value"] == 0.9
        assert old["precision"]["value"] == pytest.approx(8 / 9)
        assert new["recall"] == {"value": None, "low": None, "high": None}

    def test_without_a_model_it_is_null(self, start: Callable[..., Any]) -> None:
        answer = self.ask(start())
        assert answer["model"] is None
        assert answer["outcomes_at"] is None


def test_counting_a_request_is_cheap() -> None:
    metrics = Metrics()

    def count() -> None:
        metrics.count_request("/v1/predict", "POST", 200, 0.0007)
        metrics.count_predictions("v1", 1, 1)

    # 0.5 when measured, which was a third of a microsecond.
    assert cpu_cost(count) < 2
