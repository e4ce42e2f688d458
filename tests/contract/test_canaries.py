"""No secret or value of a request gets into responses, logs, metrics, traces or files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import structlog

from bc_pipeline.auth.api_keys import create_key
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.routes import ROUTERS
from bc_pipeline.serving.scoped_route import ScopedRoute
from tests.contract.hostile_json import filled
from tests.contract.test_access_matrix import address
from tests.e2e.service_process import KEY, Service, running_service
from tests.unit.auth.conftest import AUDIENCE, ISSUER, Issuer
from tests.unit.serving.conftest import Service as InProcess
from tests.unit.serving.telemetry.test_tracing import Collector
from tests.waiting import PATIENCE, wait_until

SAMPLE = "canary-sample-4711"
VALUE = 1001.7351962519
DATABASE, REDIS, AIRFLOW = "canary-database-pw", "canary-redis-pw", "canary-airflow-pw"
SOMETHING = "canary-of-a-request"
JSON = {"Content-Type": "application/json"}
PATHS = [route for router in ROUTERS for route in router.routes if isinstance(route, ScopedRoute)]
NOWHERE = "postgresql://service:{}@127.0.0.1:1/records"


@dataclass
class Seen:
    """All output of a service, by its source."""

    answers: dict[str, bytes] = field(default_factory=dict)
    places: dict[str, bytes] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    tokens: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    prediction: str = ""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture(scope="module")
def record(reference: Any, wdbc: Any) -> dict[str, Any]:
    found = dict(zip(wdbc.schema.names, reference[0][0].tolist(), strict=True))
    return found | {"mean_area": VALUE}


@pytest.fixture(scope="module", params=["encrypted, all away", "plain"])
def seen(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    releases_in: Any,
    fitted: Any,
    issuer: Issuer,
    record: dict[str, Any],
    collector: Collector,
) -> Seen:
    """The output of a service for valid and invalid requests to every route."""
    found = Seen()
    secrets, home = tmp_path_factory.mktemp("secrets"), tmp_path_factory.mktemp("home")
    releases = releases_in(home)
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    (secrets / "airflow").write_text(AIRFLOW)
    environment = {
        "BC_LOG_LEVEL": "DEBUG",
        "BC_AIRFLOW_PORT": "1",
        "BC_AIRFLOW_PASSWORD_FILE": str(secrets / "airflow"),
        "BC_RATE_LIMIT_FAILURES": "1000000/hour",
        "BC_REDIS_URL": f"redis://:{REDIS}@127.0.0.1:1/0",
        "BC_OTLP_ENDPOINT": collector.endpoint,
        "BC_JWT_ISSUER": ISSUER,
        "BC_JWT_AUDIENCE": AUDIENCE,
        "BC_JWT_JWKS_URL": issuer.url,
    }
    if request.param != "plain":
        environment["BC_RECORDS_URL"] = NOWHERE.format(DATABASE)
        for name, byte in (("BC_RECORDS_KEY_FILE", b"\xc1"), ("BC_ARTIFACT_KEY_FILE", b"\xc2")):
            (secrets / name).write_text((byte * 32).hex())
            (secrets / name).chmod(0o600)
            environment[name] = str(secrets / name)
            found.keys += [byte * 16, (byte * 16).hex().encode()]
    found.tokens = [
        issuer.token(scope="admin", sub="canary-subject"),
        issuer.token(scope="read"),
        issuer.token(key=issuer.private.foreign),
    ]
    with running_service(releases.settings, secrets, **environment) as service:
        if request.param == "plain":
            wait_until(lambda: service.ask("GET", "/health")[1]["parts"])
        drive(service, found, record)
        for accept in ("text/plain", "application/openmetrics-text", "application/json"):
            answer = requests.get(
                f"http://127.0.0.1:{service.port}/metrics",
                headers={"X-API-Key": KEY, "Accept": accept},
                timeout=PATIENCE,
            )
            assert answer.status_code == 200
            found.places[f"/metrics as {accept}"] = answer.content
        if request.param == "plain":
            wait_for_prediction(service, found)
        service.process.terminate()
        assert service.process.stdout is not None
        found.places["standard output"] = service.process.stdout.read().encode()
        service.process.wait(PATIENCE)
        found.places["standard error"] = service.log.read_bytes()
    found.places["traces"] = collector.bytes
    assert found.places["traces"]
    assert b"access.refused" in found.places["standard error"]
    assert b'"event":"request"' in found.places["standard error"]
    found.stored = {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file()
    }
    return found


def drive(service: Service, found: Seen, record: dict[str, Any]) -> None:
    """Send valid and invalid requests to every route."""
    named, tensor = record | {"id": SAMPLE}, list(record.values())
    broken = filled(record | {"id": SAMPLE, "mean_radius": "<>"}, b'"canary-of-a-request"')
    bodies = [
        json.dumps(named).encode(),
        json.dumps([named, named | {"mean_radius": SOMETHING}]).encode(),
        json.dumps({"features": tensor, "id": SAMPLE}).encode(),
        json.dumps({"instances": [tensor]}).encode(),
        json.dumps({"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 30],
                                "data": tensor}]}).encode(),
        json.dumps({"prediction_id": SOMETHING, "diagnosis": SOMETHING}).encode(),
        json.dumps({"prediction_id": SOMETHING, "diagnosis": "M"}).encode(),
        json.dumps({"as_of": SOMETHING}).encode(),
        broken,
        broken[:-3],
    ]  # fmt: skip
    head = ",".join(["id", *record])
    row = ",".join([SAMPLE, *map(repr, tensor)])
    table = f"{head}\n{row}\n{row.replace('17.99', SOMETHING)}\n".encode()
    labelled = f"{head},diagnosis\n{row},{SOMETHING}\n".encode()
    # Values take the place of names where line ends or the header are lost.
    marked = table.replace(SAMPLE.encode(), SOMETHING.encode())
    damaged = [
        marked.replace(b"\n", b""),
        marked.replace(b"\n", b" ", 1),
        marked.replace(b"\n", b",", 1),
        marked.replace(b",", b";"),
        marked.partition(b"\n")[2],
        SOMETHING.encode() + b",,\n" + marked,
        b"# " + marked,
        head.replace("mean_radius", SOMETHING).encode() + b"\n" + row.encode() + b"\n",
        b"{" + marked,
    ]
    credentials = [
        {"X-API-Key": KEY},
        *[{"Authorization": f"Bearer {token.decode()}"} for token in found.tokens],
        {"X-API-Key": SOMETHING},
        {"X-API-Key": KEY, "Authorization": f"Bearer {SOMETHING}"},
    ]
    strange = {"User-Agent": SOMETHING, "X-Forwarded-For": SOMETHING, "X-Request-Id": SOMETHING}
    strange |= {"Cookie": SOMETHING, "Origin": f"http://{SOMETHING}", "Idempotency-Key": SOMETHING}
    with requests.Session() as session:

        def ask(method: str, path: str, **arguments: Any) -> requests.Response:
            answer = session.request(
                method,
                f"http://127.0.0.1:{service.port}{path}",
                timeout=PATIENCE,
                **arguments,
            )
            found.answers[f"{len(found.answers)} {method} {path}"] = (
                answer.content + repr(answer.headers).encode()
            )
            return answer

        first = ask("POST", "/v1/predict", data=bodies[0], headers=credentials[0] | JSON)
        assert first.status_code == 200
        found.prediction = first.json()["prediction_id"]
        for route in PATHS:
            path = address(route)
            for credential in credentials:
                ask("GET", f"{path}?q={SOMETHING}", headers=credential | strange)
                ask("POST", path, data=bodies[0], headers=credential | strange | JSON)
            for body in bodies:
                ask("POST", path, data=body, headers=credentials[0] | strange | JSON)
            for body in (table, labelled, *damaged):
                csv = {"Content-Type": "text/csv"}
                ask("POST", path, data=body, headers=credentials[0] | strange | csv)
            ask("POST", path, data=bodies[0], headers=credentials[0] | {"Content-Type": SOMETHING})
        ask("GET", f"/{SOMETHING}/{VALUE!r}?api_key={KEY}", headers=strange)
        ask(SOMETHING.upper(), "/v1/predict", headers=strange)


def wait_for_prediction(service: Service, found: Seen) -> None:
    """Wait until the prediction can be looked up, which shows its values with scope 'read'."""
    path = f"/v1/predictions/{found.prediction}"
    wait_until(lambda: service.ask("GET", path)[0] == 200)
    stored = service.ask("GET", path)[1]
    assert (stored["features"]["mean_area"], stored["id"]) == (VALUE, SAMPLE)


def holding(contents: dict[str, bytes], canaries: list[bytes]) -> list[tuple[str, bytes]]:
    return [(name, mark) for name, held in contents.items() for mark in canaries if mark in held]


def secrets_of(seen: Seen) -> list[bytes]:
    parts = [part for token in seen.tokens for part in token.split(b".")[1:]]
    words = [KEY, DATABASE, REDIS, AIRFLOW]
    return [word.encode() for word in words] + parts + seen.keys


def test_no_output_contains_a_secret(seen: Seen) -> None:
    assert holding(seen.answers, secrets_of(seen)) == []
    assert holding(seen.places, secrets_of(seen)) == []
    assert holding(seen.stored, secrets_of(seen)) == []


def test_no_output_contains_a_value_of_a_request(seen: Seen) -> None:
    canaries = [repr(VALUE).encode(), b"7351962519", SOMETHING.encode()]
    assert holding(seen.answers, canaries) == []
    assert holding(seen.places, [*canaries, SAMPLE.encode()]) == []


def test_a_sample_id_appears_only_in_responses_to_its_request(seen: Seen) -> None:
    paths = {name.split()[-1] for name, _ in holding(seen.answers, [SAMPLE.encode()])}
    assert paths == {"/predict", "/v1/predict", "/v1/explain", "/v1/predict/batch"}


def test_values_are_stored_only_in_the_log_and_encrypted_where_a_key_is_set(
    seen: Seen,
) -> None:
    canaries = [struct.pack("<d", VALUE), struct.pack(">d", VALUE), repr(VALUE).encode()]
    where = {name.split("/")[0] for name, _ in holding(seen.stored, canaries)}
    assert where == (set() if seen.keys else {"records"})
    # The prediction itself is stored in both cases.
    assert seen.prediction.encode() in b"".join(
        held for name, held in seen.stored.items() if name.startswith("records/")
    )


def test_an_error_of_the_model_shows_no_value(
    settings: Any, releases: Any, fitted: Any, record: dict[str, Any], monkeypatch: Any
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    key, _ = create_key(settings.service_keys, "caller", ["predict"])
    service = InProcess(create_app(settings))
    live = service.model.current

    class Failing:
        def positive(self, values: Any) -> Any:
            raise ValueError(f"cannot take {values.tolist()} of {SAMPLE}")

    monkeypatch.setattr(service.app.state.services.model_watcher, "current", _with(live, Failing()))
    try:
        with structlog.testing.capture_logs() as logged:
            for path in ("/predict", "/v1/predict?explain=false", "/v1/explain"):
                answer = service.request("POST", path, json=record, headers={"X-API-Key": key})
                assert (answer.status_code, answer.json()["code"]) == (500, "pipeline-error")
                assert "7351962519" not in answer.text
    finally:
        service.stop()
    failed = [entry for entry in logged if entry["event"] == "request_failed"]
    assert len(failed) == 3
    assert "7351962519" not in repr(logged)
    assert SAMPLE not in repr(logged)


def _with(live: Any, predictor: Any) -> Any:
    import dataclasses

    return dataclasses.replace(live, predictor=predictor)
