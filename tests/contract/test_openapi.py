"""The OpenAPI document: complete, equal to its snapshot, and true of the service.

For an intended change, ``python tests/contract/test_openapi.py`` writes the snapshot and the
table of operations in docs/service.md anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from bc_pipeline.artifacts import signed_bundle, versions
from bc_pipeline.auth.api_keys import import_key
from bc_pipeline.auth.callers import SCOPES
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.serving.app import create_app
from bc_pipeline.settings import Settings
from tests.unit.serving.conftest import KEY, Service

SNAPSHOT = Path(__file__).with_name("openapi.json")
PAGE = Path(__file__).parents[2] / "docs" / "service.md"
TABLE_HEAD = "| Operation | Scope | What for |\n| --- | --- | --- |\n"
WRITE = "WRITE_OPENAPI_SNAPSHOT"
NOBODY = "01900000-0000-7000-8000-000000000000"
TEXTS = {"application/json", "text/csv"}
METHODS = {"get", "post", "put", "patch", "delete"}
# Airflow does not run in this test, so these examples get a documented error.
WITHOUT_AIRFLOW = {("post", "/v1/retrain"): 503, ("get", "/v1/retrain/{run_id}"): 404}
# An example of a batch with an invalid row, which does not make the batch fail.
INVALID_ON_PURPOSE = {("post", "/v1/predict/batch", "two")}

Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openapi")


@pytest.fixture(scope="module")
def service(home: Path, releases_in: Any, fitted: Any) -> Iterator[Service]:
    """A service with a model and a database, and without Airflow."""
    releases = releases_in(home)
    folder = releases.challenger("v1", fitted[0])
    (folder / signed_bundle.CARD).write_text("# Logistic regression\n")
    versions.publish(releases.store, releases.draft("v1"), folder, releases.settings.signing_key)
    releases.promote("v1")
    settings = Settings(home=home, airflow_port=1)
    import_key(settings.service_keys, "tests", ["admin"], KEY)
    service = Service(create_app(settings))
    drainer = Drainer(settings, threading.Event())
    drainer.run(once=True)
    drainer.close()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def prepared(service: Service, document: dict[str, Any]) -> dict[str, Any]:
    """The document with parameters whose values exist in this service."""
    record = next(
        example["value"]
        for example in document["paths"]["/v1/predict"]["post"]["requestBody"]["content"][
            "application/json"
        ]["examples"].values()
    )
    answered = service.predict(record).json()["prediction_id"]
    values = {"prediction_id": answered, "name": "wdbc", "run_id": NOBODY}
    values["Idempotency-Key"] = NOBODY
    changed: dict[str, Any] = json.loads(json.dumps(document))
    reports = changed["paths"]["/v1/outcomes"]["post"]["requestBody"]["content"]
    reported = reports["application/json"]["examples"]["reported"]["value"]
    reported["prediction_id"] = answered
    for _, _, operation in operations(changed):
        for parameter in operation.get("parameters", ()):
            if parameter["required"]:
                parameter["examples"] = {"prepared": {"value": values[parameter["name"]]}}
    return changed


def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema | {"components": document["components"]})


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_the_published_document_is_the_snapshot(service: Service, document: dict[str, Any]) -> None:
    published = document | {"info": document["info"] | {"version": "(any)"}}
    # A fit differs in its last bits from machine to machine, and so does the digest.
    text = json.dumps(published, indent=1, sort_keys=True, ensure_ascii=False).replace(
        service.model.current.manifest_sha256, "(digest)"
    )
    if WRITE in os.environ:
        SNAPSHOT.write_text(text + "\n")
    assert json.loads(SNAPSHOT.read_text()) == json.loads(text), (
        "The contract changed. If that is intended: python tests/contract/test_openapi.py"
    )


def test_every_reference_has_a_target(document: dict[str, Any]) -> None:
    broken = set()
    for reference in references(document):
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target.get(step) if isinstance(target, dict) else None
        if target is None:
            broken.add(reference)
    assert broken == set()


def test_every_schema_is_valid_and_has_a_short_name(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        # Two types of one name would get the names of their modules.
        assert re.fullmatch(r"[A-Za-z0-9]+", name)
        Draft202012Validator.check_schema(schema)
    for _, _, operation in operations(document):
        for _, content in contents(operation):
            Draft202012Validator.check_schema(content["schema"])


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body of an operation, of requests and of responses, by media type."""
    for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from holder.get("content", {}).items()


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert method in METHODS
        assert operation["summary"], path
        assert operation["tags"], path
        for name in re.findall(r"{(\w+)}", path):
            declared = [
                parameter for parameter in operation["parameters"] if parameter["name"] == name
            ]
            assert [(parameter["in"], parameter["required"]) for parameter in declared] == [
                ("path", True)
            ]
        assert all(parameter["description"] for parameter in operation.get("parameters", ()))
        assert any(status.startswith("2") for status in operation["responses"]), path
        assert {"403", "429", "500"} <= set(operation["responses"]), path
        assert ("408" in operation["responses"]) == ("requestBody" in operation), path
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)


def test_every_operation_documents_its_scope(document: dict[str, Any]) -> None:
    schemes = set(document["components"]["securitySchemes"])
    for _, path, operation in operations(document):
        scope = operation["x-required-scope"]
        if scope == "public":
            assert "security" not in operation
            assert "401" not in operation["responses"]
        else:
            assert scope in SCOPES, path
            assert {
                name for requirement in operation["security"] for name in requirement
            } == schemes
            assert all(
                [scope] == requirement[name]
                for requirement in operation["security"]
                for name in requirement
            )
            assert f"`{scope}`" in operation["description"]
            assert "401" in operation["responses"]


def test_every_error_response_lists_its_codes(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                problem = response["content"].get("application/problem+json")
                if problem is None:
                    assert path.startswith("/v2"), "only Open Inference has errors of its own"
                    continue
                assert problem["examples"]
                for reference in references(problem["examples"]):
                    code = reference.rpartition("/")[2]
                    shown = document["components"]["examples"][code]["value"]
                    assert (shown["code"], str(shown["status"])) == (code, status)
                    assert shown["type"] == f"/problems#{code}"
            if status in ("429", "503"):
                assert "Retry-After" in response["headers"]
            assert "X-Request-Id" in response["headers"]


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for media, content in contents(operation):
            for name, example in content.get("examples", {}).items():
                refused = int(example.get("x-status", 200)) >= 400
                deliberate = (method, path, name) in INVALID_ON_PURPOSE
                if "value" in example and "json" in media and not refused and not deliberate:
                    fits = validator(document, content["schema"])
                    errors = [error.message for error in fits.iter_errors(example["value"])]
                    assert errors == [], (method, path, media, name)


def test_every_text_body_has_an_example(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            assert content.get("examples") or media not in TEXTS, (path, media)


def test_the_documentation_lists_every_operation(document: dict[str, Any]) -> None:
    listed = "".join(
        f"| `{method.upper()} {path}` | `{operation['x-required-scope']}` "
        f"| {operation['summary']} |\n"
        for method, path, operation in sorted(operations(document), key=lambda found: found[1])
    )
    if WRITE in os.environ:
        head = re.escape(TABLE_HEAD)
        text = re.sub(f"{head}(?:[|].*\n)*", lambda _: TABLE_HEAD + listed, PAGE.read_text())
        PAGE.write_text(text)
    assert TABLE_HEAD + listed + "\n" in PAGE.read_text(), (
        "python tests/contract/test_openapi.py writes the table anew"
    )


def requests(operation: dict[str, Any]) -> Iterator[tuple[str | None, Any, int | None]]:
    """Media type, body and documented status of each example, no body included."""
    body = operation.get("requestBody")
    if body is None or not body["required"]:
        yield None, None, None
    for media, content in (body or {"content": {}})["content"].items():
        for example in content.get("examples", {}).values():
            yield media, example["value"], example.get("x-status")


def ask(
    service: Service, requested: Operation, media: str | None, body: Any, accept: str = "*/*"
) -> httpx.Response:
    """Send a request with the examples of an operation's parameters, and a body."""
    method, path, operation = requested
    headers, query = {"X-API-Key": KEY, "Accept": accept}, {}
    for parameter in operation.get("parameters", ()):
        for example in parameter.get("examples", {}).values():
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", example["value"])
            else:
                target = headers if parameter["in"] == "header" else query
                target[parameter["name"]] = str(example["value"])
    sent: Any = None
    if media is not None:
        headers["Content-Type"] = media
        sent = json.dumps(body) if "json" in media else body
    return service.request(method.upper(), path, content=sent, headers=headers, params=query)


def faults(document: dict[str, Any], requested: Operation, answer: httpx.Response) -> list[str]:
    """Differences between a response and the document."""
    response = requested[2]["responses"].get(str(answer.status_code))
    if response is None:
        return [f"{answer.status_code} is not documented: {answer.text}"]
    missing = [name for name in response["headers"] if name not in answer.headers]
    found = [f"no header {name}" for name in missing]
    media = answer.headers.get("content-type", "").partition(";")[0]
    documented = response.get("content", {})
    if media not in {kind.partition(";")[0] for kind in documented}:
        return [*found, f"{media} is not documented for {answer.status_code}"]
    if "json" not in media:
        return found
    fits = validator(document, documented[media]["schema"])
    bodies = answer.text.splitlines() if "ndjson" in media else [answer.text]
    return found + [
        f"{error.json_path}: {error.message}"
        for body in bodies
        for error in fits.iter_errors(json.loads(body))
    ]


def test_every_example_has_a_documented_response(
    service: Service, document: dict[str, Any], prepared: dict[str, Any]
) -> None:
    wrong, sent = [], 0
    for method, path, operation in operations(prepared):
        requested = (method, path, operation)
        for media, body, documented in requests(operation):
            answer = ask(service, requested, media, body)
            expected = WITHOUT_AIRFLOW.get((method, path), documented)
            found = faults(document, requested, answer)
            if answer.status_code != expected and (expected or not answer.is_success):
                found.append(f"{answer.status_code} in place of {expected}: {answer.text}")
            wrong += [(method, path, media, fault) for fault in found]
            sent += 1
    assert wrong == []
    assert sent > len(document["paths"])


def test_every_documented_media_type_can_be_requested(
    service: Service, document: dict[str, Any], prepared: dict[str, Any]
) -> None:
    for method, path, operation in operations(prepared):
        kinds = operation["responses"].get("200", {}).get("content", {})
        if method == "get" and len(kinds) > 1:
            for kind in kinds:
                answer = ask(service, (method, path, operation), None, None, kind)
                assert answer.headers["content-type"].startswith(kind.partition(";")[0]), path
                assert faults(document, (method, path, operation), answer) == []


if __name__ == "__main__":
    command = [sys.executable, "-m", "pytest", "-q", "-k", "snapshot or documentation", __file__]
    sys.exit(subprocess.call(command, env=os.environ | {WRITE: "1"}))
