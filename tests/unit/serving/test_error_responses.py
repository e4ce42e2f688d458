from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from http import HTTPStatus

import pytest

from bc_pipeline import errors
from bc_pipeline.errors import Defect
from bc_pipeline.serving import error_responses
from bc_pipeline.serving.pages import text_pages
from bc_pipeline.serving.scoped_route import ScopedRoute, needs
from tests.unit.serving.conftest import Service

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.PipelineError) and not kind.__name__.startswith("_")
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_problem_details_response(kind: type[errors.PipelineError]) -> None:
    response = error_responses.from_error(kind("It went wrong."))
    content = json.loads(response.body)
    assert response.status_code == content["status"] >= 400
    assert response.headers["content-type"] == "application/problem+json"
    assert content["type"] == f"/problems#{content['code']}"
    assert {"title", "detail"} <= set(content)


# The status of each error, chosen one by one. A 500 is an internal error (volume, settings or
# model), or an error that only a workflow raises.
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
        errors.VersionAmbiguous,
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
        errors.LabelsRefused,
        errors.NothingAsOf,
        errors.RowsRejected,
        errors.SchemaMismatch,
        errors.SplitOverlap,
        errors.SuiteBroken,
        errors.TooFewRows,
    },
    429: {
        errors.RateLimited,
    },
    500: {
        errors.ArtifactCorrupt,
        errors.AuditBroken,
        errors.BackupInvalid,
        errors.BatchConflict,
        errors.ConfigError,
        errors.DecryptionFailed,
        errors.DegenerateModel,
        errors.EvidenceMismatch,
        errors.GenerationReplayed,
        errors.ModelError,
        errors.NotReleasable,
        errors.NotReproducible,
        errors.NotStored,
        errors.PipelineError,
        errors.RowsErased,
        errors.SignatureInvalid,
        errors.SmokeTestFailed,
        errors.SplitChanged,
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


def test_every_error_has_its_chosen_status() -> None:
    chosen = {kind: status for status, kinds in STATUSES.items() for kind in kinds}
    assert {kind: int(error_responses.error_type(kind).status) for kind in KINDS} == chosen


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)


def test_an_internal_error_shows_no_message() -> None:
    error = errors.ArtifactCorrupt("secret-message", path="/secret/path")
    assert b"secret" not in error_responses.from_error(error).body


def test_defects_name_their_feature() -> None:
    error = errors.SchemaMismatch("m", defects=(Defect("is missing", column="mean_area"),))
    content = json.loads(error_responses.from_error(error).body)
    assert content["defects"] == [{"feature": "mean_area", "reason": "is missing"}]


def test_the_type_of_every_error_links_to_its_row() -> None:
    page = text_pages.render_error_types()
    responses = [json.loads(error_responses.from_error(kind("m")).body) for kind in KINDS]
    for code in {content["code"] for content in responses}:
        assert page.count(f'id="{code}"') == 1, code
    for status in (
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ):
        assert f'id="{error_responses.router_code(status)}"' in page


def test_the_page_of_errors_has_no_markup_of_docstrings() -> None:
    page = text_pages.render_error_types()
    assert "``" not in page
    assert "Root of the tree" not in page


def test_the_documented_example_of_an_error_is_its_response() -> None:
    for kind in KINDS:
        example = error_responses.error_example(kind)
        response = json.loads(error_responses.from_error(kind(example["detail"])).body)
        assert example == {name: response[name] for name in example}


@pytest.mark.parametrize(
    ("wait", "error"),
    [("2", errors.NoChampion("m")), ("7", errors.RateLimited("m", retry_after=7))],
)
def test_a_temporary_error_has_retry_after(wait: str, error: errors.PipelineError) -> None:
    assert error_responses.from_error(error).headers["retry-after"] == wait


def test_an_invalid_parameter_is_an_error_without_its_value(
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


def test_options_lists_the_methods_of_all_routes_of_a_path(service: Service) -> None:
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
def test_errors_below_v2_have_the_inference_protocols_error_member(
    start: Callable[..., Service], method: str, path: str, status: int
) -> None:
    service = start()
    content = service.request(method, path).json()
    assert content["status"] == status
    assert content["error"].startswith(content["detail"])
    assert "error" not in service.request(method, path.replace("v2", "v3")).json()


def test_address_errors_below_v2_have_the_error_member_too(
    start: Callable[..., Service],
) -> None:
    service = start(allowed_addresses=("10.0.0.0/8",))
    assert service.request("GET", "/v2").json()["error"]
