from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from http import HTTPStatus

import pytest

from bc_pipeline import errors
from bc_pipeline.errors import Defect
from bc_pipeline.serving import problem_details
from bc_pipeline.serving.admission import ScopedRoute, needs
from bc_pipeline.serving.pages import problems_page
from tests.unit.serving.conftest import Service

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.PipelineError) and not kind.__name__.startswith("_")
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_becomes_a_problem(kind: type[errors.PipelineError]) -> None:
    response = problem_details.from_error(kind("It went wrong."))
    content = json.loads(response.body)
    assert response.status_code == content["status"] >= 400
    assert response.headers["content-type"] == "application/problem+json"
    assert content["type"] == f"/problems#{content['code']}"
    assert {"title", "detail"} <= set(content)


# What each error means to a client, thought about one by one. A 500 is a fault of the service:
# of its volume, its settings or its model, or an error that only a workflow raises.
STATUSES = {
    400: {
        errors.BodyUnreadable,
        errors.HeaderRefused,
        errors.RequestRefused,
    },
    401: {
        errors.KeyRefused,
    },
    403: {
        errors.AddressRefused,
        errors.ScopeMissing,
    },
    404: {
        errors.NotThere,
        errors.VersionNotFound,
    },
    408: {
        errors.BodyTooSlow,
    },
    409: {
        errors.OutcomeConflict,
    },
    410: {
        errors.RecordExpired,
    },
    413: {
        errors.BodyTooLarge,
    },
    415: {
        errors.MediaTypeRefused,
    },
    422: {
        errors.DataError,
        errors.ExpectationsFailed,
        errors.FileRefused,
        errors.KeyReused,
        errors.NothingAsOf,
        errors.RowsRejected,
        errors.SchemaMismatch,
        errors.SplitOverlap,
        errors.SuiteBroken,
    },
    429: {
        errors.RateLimited,
    },
    500: {
        errors.ArtifactCorrupt,
        errors.AuditBroken,
        errors.BackupInvalid,
        errors.ConfigError,
        errors.DecryptionFailed,
        errors.DegenerateModel,
        errors.EvidenceMismatch,
        errors.GenerationReplayed,
        errors.ModelError,
        errors.NotReleasable,
        errors.NotReproducible,
        errors.NotStored,
        errors.ParityError,
        errors.PipelineError,
        errors.SignatureInvalid,
        errors.SmokeTestFailed,
        errors.StackError,
        errors.StoreError,
        errors.StoreUnfit,
        errors.VersionConflict,
    },
    502: {
        errors.AirflowRefused,
    },
    503: {
        errors.AirflowAway,
        errors.NoChampion,
        errors.RecordsAway,
        errors.TransientError,
    },
}


def test_the_status_of_every_error_was_chosen() -> None:
    chosen = {kind: status for status, kinds in STATUSES.items() for kind in kinds}
    assert {kind: int(problem_details.problem_type(kind).status) for kind in KINDS} == chosen


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)


def test_a_fault_of_the_service_shows_no_message() -> None:
    error = errors.ArtifactCorrupt("secret-message", path="/secret/path")
    assert b"secret" not in problem_details.from_error(error).body


def test_defects_name_their_feature() -> None:
    error = errors.SchemaMismatch("m", defects=(Defect("is missing", column="mean_area"),))
    content = json.loads(problem_details.from_error(error).body)
    assert content["defects"] == [{"feature": "mean_area", "reason": "is missing"}]


def test_the_type_of_every_problem_leads_to_its_row() -> None:
    page = problems_page.page()
    sent = [json.loads(problem_details.from_error(kind("m")).body) for kind in KINDS]
    for code in {content["code"] for content in sent}:
        assert page.count(f'id="{code}"') == 1, code
    for status in (
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ):
        assert f'id="{problem_details.router_code(status)}"' in page


def test_the_page_of_problems_speaks_to_clients() -> None:
    page = problems_page.page()
    assert "``" not in page
    assert "Root of the tree" not in page


def test_what_is_documented_of_an_error_is_what_a_client_sees() -> None:
    for kind in KINDS:
        shown = problem_details.problem_example(kind)
        sent = json.loads(problem_details.from_error(kind(shown["detail"])).body)
        assert shown == {name: sent[name] for name in shown}


@pytest.mark.parametrize(
    ("wait", "error"),
    [("2", errors.NoChampion("m")), ("7", errors.RateLimited("m", retry_after=7))],
)
def test_a_client_is_told_when_to_come_back(wait: str, error: errors.PipelineError) -> None:
    assert problem_details.from_error(error).headers["retry-after"] == wait


def test_what_the_framework_refuses_is_a_problem_without_the_value(
    service: Service,
) -> None:
    async def pick(number: int) -> None:
        raise AssertionError(number)

    service.app.router.add_api_route(
        "/pick/{number}", pick, methods=["GET"], openapi_extra=needs("public"),
        route_class_override=ScopedRoute,
    )  # fmt: skip
    answer = service.get("/pick/secret")
    assert (answer.status_code, answer.json()["code"]) == (400, "header-refused")
    assert "number" in answer.json()["detail"]
    assert "secret" not in answer.text


def test_options_tells_the_methods_of_all_routes_at_an_address(service: Service) -> None:
    answer = service.request("OPTIONS", "/v1/model")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert service.request("OPTIONS", "/v1/predict").headers["allow"] == "OPTIONS, POST"
    assert service.request("OPTIONS", "/nothing").status_code == 404
    assert service.request("DELETE", "/v1/model").headers["allow"] == "GET, HEAD, OPTIONS"


def test_head_is_get_without_the_body(service: Service) -> None:
    for path in ("/livez", "/readyz", "/", "/openapi.json", "/docs"):
        assert service.request("HEAD", path).status_code == 200, path
    assert service.request("HEAD", "/v1/model").status_code == 401
    assert service.request("HEAD", "/predict").status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v2/nothing", 404), ("DELETE", "/v2", 405), ("GET", "/v2/models/x", 401)],
)
def test_clients_of_the_inference_protocol_find_error(
    start: Callable[..., Service], method: str, path: str, status: int
) -> None:
    service = start()
    content = service.request(method, path).json()
    assert content["status"] == status
    assert content["error"].startswith(content["detail"])
    assert "error" not in service.request(method, path.replace("v2", "v3")).json()


def test_so_do_those_that_are_turned_away_at_the_door(
    start: Callable[..., Service],
) -> None:
    service = start(allowed_addresses=("10.0.0.0/8",))
    assert service.request("GET", "/v2").json()["error"]
