"""Metrics of two workers, of which one is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.service_process import KEY, Service, exchange, running_service
from tests.waiting import PATIENCE, wait_until

REQUESTS = 40
AUTHORIZED = {"X-API-Key": KEY}


def scrape(service: Service) -> dict[str, float]:
    """The sum over all labels by name; either worker may answer."""
    connection = service.connect()
    try:
        connection.request("GET", "/metrics", headers=AUTHORIZED)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200
    finally:
        connection.close()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("route", "/predict") == "/predict":
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def predict(service: Service, content: Any) -> None:
    for _ in range(REQUESTS):
        connection = service.connect()
        assert exchange(connection, "POST", "/predict", content, KEY)[0] == 200
        connection.close()


def test_every_worker_exposes_the_counts_of_all(
    settings: Any, tmp_path: Path, releases: Any, fitted: Any, reference: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    content = {"features": reference[0][0].tolist()}
    with running_service(settings, tmp_path, workers=2) as service:
        predict(service, content)
        # Either worker knows of all predictions after a moment.
        wait_until(lambda: scrape(service)["bc_predictions_total"] == REQUESTS)
        for _ in range(8):
            found = scrape(service)
            assert found["bc_predictions_total"] == REQUESTS
            assert found["bc_http_requests_total"] == REQUESTS
            assert found["bc_http_request_duration_seconds_count"] == REQUESTS
            assert found["bc_workers"] == 2
            assert found["bc_ready"] == 1
            assert found["bc_model_info"] == 1
        wait_until(lambda: scrape(service)["bc_records_database_up"] == 1)
        wait_until(lambda: scrape(service)["bc_records_drained_total"] == REQUESTS)
        cpu = scrape(service)["process_cpu_seconds_total"]
        victim = service.workers()[0]
        victim.kill()
        # Its counts remain, and a new worker is started.
        wait_until(lambda: victim not in service.workers())
        wait_until(lambda: len(service.workers()) == 2)
        wait_until(lambda: scrape(service)["bc_workers"] == 2)
        wait_until(lambda: scrape(service)["bc_ready"] == 1)
        predict(service, content)
        wait_until(lambda: scrape(service)["bc_predictions_total"] == 2 * REQUESTS)
        assert scrape(service)["process_cpu_seconds_total"] > cpu


def test_successful_probes_and_scrapes_are_not_logged(
    settings: Any, tmp_path: Path, releases: Any, fitted: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    with running_service(settings, tmp_path, workers=2) as service:
        for path in ("/livez", "/readyz", "/health", "/metrics", "/"):
            connection = service.connect()
            connection.request("GET", path, headers=AUTHORIZED)
            assert connection.getresponse().status == 200
            connection.close()
        service.process.terminate()
        service.process.wait(PATIENCE)
        log = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert [line["path"] for line in log if line["event"] == "request"] == ["/"]
