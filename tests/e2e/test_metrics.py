"""What two real workers tell together, through the end of one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.service_process import KEY, Service, exchange, running_service

ASKED = 40
AUTHORIZED = {"X-API-Key": KEY}


def scrape(service: Service) -> dict[str, float]:
    """Sums over the labels of each sample's name, by whichever worker answers."""
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


def ask(service: Service, content: Any) -> None:
    for _ in range(ASKED):
        connection = service.connect()
        assert exchange(connection, "POST", "/predict", content, KEY)[0] == 200
        connection.close()


def test_every_worker_tells_what_all_have_counted(
    settings: Any, tmp_path: Path, releases: Any, fitted: Any, reference: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    content = {"features": reference[0][0].tolist()}
    with running_service(settings, tmp_path, workers=2) as service:
        ask(service, content)
        # Whichever worker is asked, at most a moment later.
        service.wait_for(lambda: scrape(service)["bc_predictions_total"] == ASKED, 5)
        for _ in range(8):
            found = scrape(service)
            assert found["bc_predictions_total"] == ASKED
            assert found["bc_http_requests_total"] == ASKED
            assert found["bc_http_request_duration_seconds_count"] == ASKED
            assert found["bc_workers"] == 2
            assert found["bc_ready"] == 1
            assert found["bc_model_info"] == 1
        service.wait_for(lambda: scrape(service)["bc_records_database_up"] == 1, 10)
        service.wait_for(lambda: scrape(service)["bc_records_drained_total"] == ASKED, 10)
        cpu = scrape(service)["process_cpu_seconds_total"]
        victim = service.workers()[0]
        victim.kill()
        # Its counts stay, and a new one takes its place.
        service.wait_for(lambda: victim not in service.workers(), 5)
        service.wait_for(lambda: len(service.workers()) == 2, 15)
        service.wait_for(lambda: scrape(service)["bc_workers"] == 2, 15)
        service.wait_for(lambda: scrape(service)["bc_ready"] == 1, 5)
        ask(service, content)
        service.wait_for(lambda: scrape(service)["bc_predictions_total"] == 2 * ASKED, 5)
        assert scrape(service)["process_cpu_seconds_total"] > cpu


def test_probes_and_scrapes_fill_no_log(
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
        service.process.wait(20)
        log = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert [line["path"] for line in log if line["event"] == "request"] == ["/"]
