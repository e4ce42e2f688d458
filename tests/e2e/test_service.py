"""The real service in processes of its own, following a real volume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts.signed_bundle import MODEL
from bc_pipeline.settings import Settings
from tests.e2e.service_process import (
    KEY,
    Load,
    Service,
    running_service,
)
from tests.waiting import wait_until

SWAPS = 100
WORKERS = 2


@pytest.fixture
def service(settings: Settings, tmp_path: Path) -> Iterator[Service]:
    """A service that follows the registry of the test's volume."""
    with running_service(settings, tmp_path) as service:
        yield service


def test_from_no_champion_to_the_first_and_past_a_corrupt_one(
    service: Service, releases: Any, fitted: Any, reference: Any
) -> None:
    record = {"features": reference[0][0].tolist()}
    assert service.ask("GET", "/health")[0] == 503
    assert service.ask("POST", "/predict", record)[0] == 503
    assert service.ask("GET", "/")[0] == 200

    releases.publish("v1", fitted[0])
    releases.promote("v1")
    wait_until(lambda: service.version() == "v1")
    status, answer = service.ask("POST", "/predict", record)
    assert (status, answer["model_version"]) == (200, "v1")
    assert abs(answer["probabilities"]["malignant"] - fitted[0].probability[0]) <= 1e-12

    for key in (None, "", "wrong", KEY + "x"):
        assert service.ask("POST", "/predict", record, key)[0] == 401

    releases.publish("v2", fitted[1])
    path = releases.store.version("v2") / MODEL
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\0")
    releases.promote("v2")
    wait_until(lambda: service.ask("GET", "/health")[1]["refused"]["count"] == 1)
    health = service.ask("GET", "/health")[1]
    assert (health["model_version"], health["generation"]) == ("v1", 1)
    assert health["refused"]["last"]["version"] == "v2"
    assert service.ask("POST", "/predict", record)[1]["model_version"] == "v1"

    path.write_bytes(whole)
    wait_until(lambda: service.version() == "v2")
    health = service.ask("GET", "/health")[1]
    assert (health["refused"]["count"], health["refused"]["last"]) == (1, None)
    answer = service.ask("POST", "/predict", record)[1]
    assert abs(answer["probabilities"]["malignant"] - fitted[1].probability[0]) <= 1e-12


def test_a_hundred_swaps_under_load_lose_and_mix_nothing(
    settings: Settings, tmp_path: Path, releases: Any, fitted: Any, reference: Any
) -> None:
    names = [f"v{index}" for index in range(len(fitted))]
    for name, model in zip(names, fitted, strict=True):
        releases.publish(name, model)
    releases.promote(names[0])
    with (
        running_service(settings, tmp_path, workers=WORKERS, BC_RELOAD_SECONDS="0.05") as service,
        Load(service, reference[0].tolist()) as load,
    ):
        for swap in range(1, SWAPS + 1):
            releases.promote(names[swap % len(names)])
            loaded = swap * WORKERS

            def loaded_by_all(loaded: int = loaded) -> bool:
                live = [event for event in service.events() if event["event"] == "model_live"]
                return len(live) >= loaded + WORKERS

            wait_until(loaded_by_all)
        load.stop()
        health = service.ask("GET", "/health")[1]
    assert load.failures == []
    assert len(load.answers) > SWAPS * load.clients
    assert {answer.status for answer in load.answers} == {200}
    assert {answer.content["model_version"] for answer in load.answers} == set(names)
    expected = {name: model.probability for name, model in zip(names, fitted, strict=True)}
    for answer in load.answers:
        version = answer.content["model_version"]
        assert answer.headers["x-model-version"] == version
        assert answer.headers["x-manifest-sha256"] == answer.content["manifest_sha256"]
        answered = answer.content["probabilities"]["malignant"]
        assert abs(answered - expected[version][answer.row]) <= 1e-12
    assert (health["generation"], health["refused"]["count"]) == (SWAPS + 1, 0)


def test_the_first_csv_of_a_new_worker_is_answered(
    service: Service, releases: Any, fitted: Any, reference: Any, wdbc: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    wait_until(lambda: service.version() == "v1")
    rows = [",".join(wdbc.schema.names), ",".join(map(repr, reference[0][0].tolist()))]
    headers = {"X-API-Key": KEY, "Content-Type": "text/csv"}
    connection = service.connect()
    connection.request("POST", "/v1/predict/batch", "\n".join(rows), headers)
    answer = connection.getresponse()
    first, _ = answer.read().splitlines()
    connection.close()
    assert (answer.status, b'"prediction"' in first) == (200, True)
