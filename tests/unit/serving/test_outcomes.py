"""Outcomes and look-ups over the real database, through the service."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bc_pipeline.auth.api_keys import create_key
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.outcomes import OutcomeReport, record_outcomes
from bc_pipeline.prediction_log.predictions import find_prediction
from bc_pipeline.prediction_log.status import read_status
from bc_pipeline.problems import get_problem
from bc_pipeline.settings import Settings
from tests.unit.serving.conftest import KEY, Service
from tests.waiting import wait_until

Drained = Callable[[str], None]
UNKNOWN = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
def drained(settings: Settings) -> Iterator[Callable[[str], None]]:
    """A drainer beside the service; the function waits until it has taken a prediction."""
    stop = threading.Event()
    drainer = Drainer(settings, stop)
    thread = threading.Thread(target=drainer.run)
    thread.start()
    wait_until(lambda: read_status(settings.records))

    def wait(prediction_id: str) -> None:
        wait_until(lambda: find_prediction(settings, prediction_id).drained)

    yield wait
    stop.set()
    thread.join()
    drainer.close()


def report(service: Service, content: Any, kind: str = "application/json") -> Any:
    body = content if isinstance(content, str) else json.dumps(content)
    headers = {"X-API-Key": KEY, "Content-Type": kind}
    return service.request("POST", "/v1/outcomes", content=body, headers=headers)


def look_up(service: Service, prediction_id: str) -> Any:
    path = f"/v1/predictions/{prediction_id}"
    return service.request("GET", path, headers={"X-API-Key": KEY})


@pytest.fixture
def answer(service: Service, reference: Any) -> dict[str, Any]:
    """A prediction that was just answered: the first row is malignant, and called so."""
    row = reference[0][0].tolist()
    found: dict[str, Any] = service.predict({"features": row, "id": "A-17"}).json()
    return found


def test_an_answer_can_be_looked_up_at_once_and_after_draining(
    service: Service, answer: dict[str, Any], reference: Any, wdbc: Any, drained: Drained
) -> None:
    found = []
    for _ in range(2):
        response = look_up(service, answer["prediction_id"])
        assert response.status_code == 200
        found.append(response.json())
        drained(answer["prediction_id"])
    assert found[0] == found[1]
    for key in ("prediction_id", "prediction", "label", "probabilities", "model_version", "id"):
        assert found[0][key] == answer[key]
    assert found[0]["features"] == dict(zip(wdbc.schema.names, reference[0][0], strict=True))
    assert (found[0]["caller"], found[0]["outcome"]) == ("tests", None)


def test_an_id_is_found_in_either_case(
    service: Service, answer: dict[str, Any], drained: Drained
) -> None:
    capitals = answer["prediction_id"].upper()
    for _ in range(2):
        assert look_up(service, capitals).json()["prediction_id"] == answer["prediction_id"]
        drained(answer["prediction_id"])
    reported = report(service, {"prediction_id": capitals, "diagnosis": "M"})
    assert (reported.status_code, reported.json()["prediction_id"]) == (
        201,
        answer["prediction_id"],
    )
    again = report(service, f"prediction_id,diagnosis\n{capitals},M\n", "text/csv")
    assert [result["result"] for result in again.json()["results"]] == ["known"]
    assert look_up(service, capitals).json()["outcome"]["diagnosis"] == "malignant"


@pytest.mark.parametrize("name", [UNKNOWN, "x", "%00", "../../etc/passwd", "A" * 5000])
def test_an_unknown_prediction_is_404(service: Service, drained: Drained, name: str) -> None:
    assert look_up(service, name).status_code == 404


def test_every_result_of_a_single_report(
    service: Service, answer: dict[str, Any], drained: Drained
) -> None:
    true = {"prediction_id": answer["prediction_id"], "diagnosis": "M"}
    first = report(service, true | {"observed_at": "2030-01-01"})
    assert (first.status_code, first.json()["defects"][0]["feature"]) == (422, "observed_at")
    recorded = report(service, true)
    assert (recorded.status_code, recorded.json()["result"]) == (201, "recorded")
    assert recorded.json()["diagnosis"] == recorded.json()["predicted"] == "malignant"
    known = report(service, true | {"diagnosis": "malignant"})
    assert (known.status_code, known.json()["result"]) == (200, "known")
    other = true | {"diagnosis": "benign"}
    conflict = report(service, other)
    assert (conflict.status_code, conflict.json()["code"]) == (409, "outcome-conflict")
    corrected = report(service, other | {"correction": True})
    assert (corrected.status_code, corrected.json()["result"]) == (200, "corrected")
    unknown = report(service, true | {"prediction_id": UNKNOWN})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-there")
    outcome = look_up(service, answer["prediction_id"]).json()["outcome"]
    assert (outcome["diagnosis"], outcome["corrections"]) == ("benign", 1)
    assert outcome["source"] == "tests"


def test_each_of_several_reports_has_its_result(
    service: Service, answer: dict[str, Any], drained: Drained
) -> None:
    true = {"prediction_id": answer["prediction_id"], "diagnosis": 0}
    several = report(service, [true, true, true | {"prediction_id": UNKNOWN}])
    assert several.status_code == 200
    assert [result["result"] for result in several.json()["results"]] == [
        "recorded",
        "known",
        "unknown",
    ]
    assert several.json()["counts"] == {"known": 1, "recorded": 1, "unknown": 1}
    csv = f"diagnosis,prediction_id\nB,{answer['prediction_id']}\n\n"
    answered = report(service, csv, "text/csv")
    assert [result["result"] for result in answered.json()["results"]] == ["conflict"]


@pytest.mark.parametrize(
    "observed_at",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1970-01-01T00:00:00Z"],
)
def test_an_impossible_time_is_refused(
    service: Service, answer: dict[str, Any], drained: Drained, observed_at: str
) -> None:
    true = {"prediction_id": answer["prediction_id"], "diagnosis": "M", "observed_at": observed_at}
    refused = report(service, true)
    assert (refused.status_code, len(refused.json()["defects"])) == (422, 1)
    assert "line" not in refused.json()["defects"][0]
    assert not refused.json()["detail"].endswith(":")
    assert look_up(service, answer["prediction_id"]).json()["outcome"] is None


def test_an_impossible_stored_time_is_left_out(
    service: Service, settings: Settings, answer: dict[str, Any], drained: Drained
) -> None:
    """An earlier release took it."""
    stored = OutcomeReport(answer["prediction_id"], True, "lab", -62_135_647_200.0)
    record_outcomes(settings, [stored], get_problem("wdbc").labels)
    found = look_up(service, answer["prediction_id"])
    assert (found.status_code, found.json()["outcome"]["observed_at"]) == (200, None)


def test_all_defects_of_a_report_are_listed_together(
    service: Service, answer: dict[str, Any], drained: Drained
) -> None:
    bad = {"prediction_id": answer["prediction_id"], "diagnosis": "X", "observed_at": "y", "z": 1}
    # A name that resembles no field may be a value, and is not repeated.
    wrong = {"diagnosis", "observed_at", None}
    single = report(service, bad).json()["defects"]
    assert {defect["feature"] for defect in single} == wrong
    several = report(service, [bad, bad | {"correction": 1}]).json()["defects"]
    assert {(defect["line"], defect["feature"]) for defect in several} == {
        *((line, name) for line in (1, 2) for name in wrong),
        (2, "correction"),
    }
    csv = f"prediction_id,diagnosis,observed_at\n{answer['prediction_id']},X,2030-01-01\n"
    rows = report(service, csv, "text/csv").json()["defects"]
    assert [(defect["line"], defect["feature"]) for defect in rows] == [
        (2, "diagnosis"),
        (2, "observed_at"),
    ]


def test_outcomes_may_come_as_the_file_of_a_form(
    service: Service, answer: dict[str, Any], drained: Drained
) -> None:
    csv = f"prediction_id,diagnosis\n{answer['prediction_id']},M\n"
    form = {"files": {"file": ("truth.csv", csv)}, "headers": {"X-API-Key": KEY}}
    answered = service.request("POST", "/v1/outcomes", **form)
    assert (answered.status_code, answered.json()["counts"]) == (200, {"recorded": 1})
    refused = report(service, "a=1", "application/x-www-form-urlencoded")
    for kind in ("application/json", "text/csv", "multipart/form-data"):
        assert kind in refused.json()["detail"]


SECRET = "secret-4711"
BAD: list[tuple[Any, str, int]] = [
    ("", "application/json", 400),
    ("{", "application/json", 400),
    ([], "application/json", 422),
    ([[]], "application/json", 422),
    ("null", "application/json", 422),
    ({}, "application/json", 422),
    ({"prediction_id": UNKNOWN, "diagnosis": SECRET}, "application/json", 422),
    ({"prediction_id": UNKNOWN, "diagnosis": True}, "application/json", 422),
    ({"prediction_id": 5, "diagnosis": "M"}, "application/json", 422),
    ({"prediction_id": UNKNOWN, "diagnosis": "M", "x": SECRET}, "application/json", 422),
    ({"prediction_id": UNKNOWN, "diagnosis": "M", "observed_at": SECRET}, "application/json", 422),
    ('{"prediction_id": "a", "prediction_id": "b", "diagnosis": "M"}', "application/json", 422),
    ('{"prediction_id": "\\ud800", "diagnosis": "M"}', "application/json", 422),
    ('[{"prediction_id": "\\ud800", "diagnosis": "M"}]', "application/json", 422),
    ('{"prediction_id": "a", "diagnosis": "M", "\\ud800": 1}', "application/json", 422),
    ('{"prediction_id": "a", "diagnosis": "\\ud800"}', "application/json", 422),
    ('{"prediction_id": "a", "diagnosis": NaN}', "application/json", 422),
    ('{"prediction_id": "a", "diagnosis": -Infinity}', "application/json", 422),
    (f'{{"prediction_id": "a", "diagnosis": {"9" * 5000}}}', "application/json", 422),
    ({"prediction_id": UNKNOWN, "diagnosis": None}, "application/json", 422),
    ({"prediction_id": UNKNOWN, "diagnosis": {"M": 1}}, "application/json", 422),
    ([{"prediction_id": UNKNOWN, "diagnosis": "M"}] * 10_001, "application/json", 422),
    ("", "text/csv", 400),
    ("a,b\n1,2\n", "text/csv", 422),
    (f"prediction_id,diagnosis\n{SECRET}\n", "text/csv", 422),
    (f'prediction_id,diagnosis\n"{SECRET},M\n', "text/csv", 400),
    (f"prediction_id,diagnosis\nx,{SECRET}\n", "text/csv", 422),
    ("prediction_id,diagnosis,correction\nx,M,perhaps\n", "text/csv", 422),
    ("prediction_id,diagnosis,diagnosis\nx,M,M\n", "text/csv", 422),
    ("prediction_id,diagnosis\n", "text/csv", 422),
    ("x" * 200_000, "text/csv", 400),
    ("prediction_id=1", "application/x-www-form-urlencoded", 415),
]


@pytest.mark.parametrize(("content", "kind", "status"), BAD, ids=range(len(BAD)))
def test_a_bad_report_is_refused_and_not_repeated(
    service: Service, drained: Drained, content: Any, kind: str, status: int
) -> None:
    answered = report(service, content, kind)
    assert answered.status_code == status
    assert answered.headers["content-type"] == "application/problem+json"
    assert SECRET not in answered.text


def test_ten_thousand_reports_are_accepted(service: Service, drained: Drained) -> None:
    full = {"prediction_id": UNKNOWN, "diagnosis": "malignant", "correction": False}
    many = [full | {"observed_at": "2026-11-20T10:00:00+00:00"}] * 10_000
    answered = report(service, many)
    assert answered.status_code == 200
    assert answered.json()["counts"] == {"unknown": 10_000}


def test_nothing_is_recorded_where_one_report_is_bad(
    service: Service, answer: dict[str, Any], drained: Drained
) -> None:
    true = {"prediction_id": answer["prediction_id"], "diagnosis": "M"}
    bad = report(service, [true, {"prediction_id": 5}])
    assert bad.status_code == 422
    assert {defect["line"] for defect in bad.json()["defects"]} == {2}
    assert look_up(service, answer["prediction_id"]).json()["outcome"] is None


def test_each_operation_needs_its_own_scope(
    service: Service, answer: dict[str, Any], settings: Settings, drained: Drained
) -> None:
    raw, _ = create_key(settings.service_keys, "predictor", ["predict"])
    service.app.state.services.authenticator.refresh()
    headers = {"X-API-Key": raw, "Content-Type": "application/json"}
    path = f"/v1/predictions/{answer['prediction_id']}"
    assert service.request("GET", path, headers=headers).status_code == 403
    assert service.request("POST", "/v1/outcomes", headers=headers).status_code == 403
