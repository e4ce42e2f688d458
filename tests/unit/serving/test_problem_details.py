from __future__ import annotations

import inspect
import json
from http import HTTPStatus

import pytest

from bc_pipeline import errors
from bc_pipeline.errors import Defect
from bc_pipeline.serving import docs_page, problem_details

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
    assert content["type"] == f"/docs#{content['code']}"
    assert {"title", "detail"} <= set(content)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BodyUnreadable("m"), 400),
        (errors.KeyRefused("m"), 401),
        (errors.BodyTooLarge("m"), 413),
        (errors.MediaTypeRefused("m"), 415),
        (errors.SchemaMismatch("m"), 422),
        (errors.ModelError("m"), 500),
        (errors.ArtifactCorrupt("m"), 500),
        (errors.NoChampion("m"), 503),
        (errors.TransientError("m"), 503),
    ],
)
def test_the_status_follows_the_table(error: errors.PipelineError, status: int) -> None:
    assert problem_details.from_error(error).status_code == status


def test_a_fault_of_the_service_shows_no_message() -> None:
    error = errors.ArtifactCorrupt("secret-message", path="/secret/path")
    assert b"secret" not in problem_details.from_error(error).body


def test_defects_name_their_feature() -> None:
    error = errors.SchemaMismatch("m", defects=(Defect("is missing", column="mean_area"),))
    content = json.loads(problem_details.from_error(error).body)
    assert content["defects"] == [{"feature": "mean_area", "reason": "is missing"}]


def test_the_type_of_every_problem_leads_to_its_paragraph() -> None:
    page = docs_page.page({"info": {"title": "", "version": "", "description": ""}, "paths": {},
                           "components": {"schemas": {"Record": {}}}})  # fmt: skip
    for kind in problem_details.PROBLEMS:
        assert f'id="{kind.code}"' in page
    for status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        assert f'id="{problem_details.router_code(status)}"' in page
