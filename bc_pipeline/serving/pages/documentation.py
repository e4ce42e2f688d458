"""Description of an operation in the OpenAPI document.

FastAPI generates the document. `operation` gives each route what FastAPI cannot know: the scope,
the error responses, and the bodies that are not parsed by FastAPI. A contract test sends every
example and compares the response with the document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from fastapi import Response
from pydantic import BaseModel

from bc_pipeline.errors import (
    AddressRefused,
    BodyTooLarge,
    BodyTooSlow,
    BodyUnreadable,
    KeyRefused,
    MediaTypeRefused,
    PipelineError,
    RateLimited,
    SchemaMismatch,
    ScopeMissing,
)
from bc_pipeline.labels import Labels
from bc_pipeline.serving.error_responses import MEDIA_TYPE, error_type
from bc_pipeline.serving.model.model_info import NOTICE
from bc_pipeline.serving.scoped_route import Required, needs

TITLE = "bc-pipeline prediction service"
# The parameter of paths that names the problem.
PROBLEM_PARAMETER = "name"
_DESCRIPTION = Path(__file__).with_name("description.md").read_text().strip()

JSON = "application/json"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
MARKDOWN = "text/markdown"
TEXT = {"type": "string"}
BYTES = {"type": "string", "format": "binary"}
MODEL_HEADERS = ("X-Model-Version", "X-Manifest-Sha256")
# Errors of every operation that reads a JSON body.
BODY_ERRORS = (BodyUnreadable, BodyTooLarge, MediaTypeRefused, SchemaMismatch)

Model = type[msgspec.Struct] | type[BaseModel]
Schema = Mapping[str, Any] | Model
# Referenced types by name; FastAPI adds the pydantic models of answers by itself.
MODELS: dict[str, Model] = {}
# Values of examples; the document that FastAPI generates has their indices in place of them,
# because FastAPI would remove nulls and cannot encode functions.
EXAMPLES: list[Any] = []
# Error classes that any operation documents, by code.
DOCUMENTED_ERRORS: dict[str, type[PipelineError]] = {}
_ERROR_HEADERS: dict[int, tuple[str, ...]] = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
}


def description(labels: Labels | None) -> str:
    """What the service does, with the labels of the loaded model where there is one."""
    if labels is None:
        names = {"labels": "positive or negative", "positive": "the positive label", "codes": ""}
    else:
        positive, negative = labels.positive, labels.negative
        names = {
            "labels": f"{positive.name} or {negative.name}",
            "positive": positive.name,
            "codes": f": {positive.code} is {positive.name}, {negative.code} is {negative.name}",
        }
    return _DESCRIPTION.format(notice=NOTICE, **names)


@dataclass(frozen=True)
class Example:
    """An example of a body.

    Attributes
    ----------
    value : Any
        JSON, or text for a body of another media type. A function gets the loaded model and
        returns the value; without a loaded model the document omits the example.
    status : int or None
        Of a request: the status of its response, where it is not the first success.
    """

    summary: str
    value: Any
    status: int | None = None


def operation(
    summary: str,
    *,
    scope: Required,
    answer: Any = None,
    description: str = "The answer.",
    example: Any = None,
    status: int = HTTPStatus.OK,
    contents: Mapping[str, dict[str, Any]] | None = None,
    headers: Sequence[str] = (),
    others: Mapping[int, dict[str, Any]] | None = None,
    parameters: Sequence[dict[str, Any]] = (),
    body: dict[str, Any] | None = None,
    errors: Sequence[type[PipelineError]] = (),
) -> dict[str, Any]:
    """Keyword arguments of a route decorator: the scope, and the documentation.

    The description of the operation is the docstring of its endpoint.

    Parameters
    ----------
    answer, description, example, status, contents, headers
        The first success, as for `response`.
    others : mapping of int to dict, optional
        Further successes by status, each made by `response`.
    parameters : sequence of dict
        OpenAPI's Parameter Objects for what the endpoint reads itself.
    body : dict, optional
        Made by `request_body`.
    errors : sequence of error types
        What the operation may raise, beside what every operation may.
    """
    extra: dict[str, Any] = needs(scope)
    all_errors = [*errors, AddressRefused, RateLimited, PipelineError]
    if scope != "public":
        all_errors += [KeyRefused, ScopeMissing]
    if parameters:
        extra["parameters"] = list(parameters)
    if body is not None:
        extra["requestBody"] = body
        all_errors.append(BodyTooSlow)
    first = response(description, answer, contents, headers, example)
    return {
        "summary": summary,
        "status_code": int(status),
        "response_description": description,
        # Endpoints return responses: FastAPI neither validates nor encodes them.
        "response_class": Response,
        "responses": {int(status): first} | dict(others or {}) | _error_responses(all_errors),
        "openapi_extra": extra,
    }


def response(
    description: str,
    answer: Any = None,
    contents: Mapping[str, dict[str, Any]] | None = None,
    headers: Sequence[str] = (),
    example: Any = None,
) -> dict[str, Any]:
    """A successful response.

    Parameters
    ----------
    answer : type or JSON schema, optional
        The JSON body.
    contents : mapping of str to dict, optional
        Bodies of other media types, each made by `content`.
    headers : sequence of str
        Names from the document's components, beside X-Request-Id.
    example : Any
        An example of the JSON body.
    """
    documented: dict[str, Any] = {
        "description": description,
        "headers": _headers("X-Request-Id", *headers),
        "content": dict(contents or {}),
    }
    if answer is not None:
        body = _examples({} if example is None else {"answer": Example(description, example)})
        if isinstance(answer, Mapping) or _is_struct(answer):
            body["schema"] = reference(answer)
        else:
            documented["model"] = answer
        documented["content"][JSON] = body
    return documented


def content(schema: Schema, **examples: Example) -> dict[str, Any]:
    """One media type of a body: its schema, and examples by name.

    Parameters
    ----------
    schema : type or JSON schema
        `TEXT` for plain text.
    """
    return {"schema": reference(schema)} | _examples(examples)


def request_body(
    contents: Mapping[str, dict[str, Any]], description: str = "", *, required: bool = True
) -> dict[str, Any]:
    """The body of a request, by media type; each value is made by `content`."""
    body: dict[str, Any] = {"required": required, "content": dict(contents)}
    return body | ({"description": description} if description else {})


def reference(schema: Schema) -> dict[str, Any]:
    """The reference to a type in the components of the document; a JSON schema is returned."""
    if isinstance(schema, Mapping):
        return dict(schema)
    registered = MODELS.setdefault(schema.__name__, schema)
    if registered is not schema:
        raise TypeError(f"Two types are called {schema.__name__}: rename one.")
    return {"$ref": f"#/components/schemas/{schema.__name__}"}


def _examples(examples: Mapping[str, Example]) -> dict[str, Any]:
    documented: dict[str, dict[str, Any]] = {}
    for name, example in examples.items():
        documented[name] = {"summary": example.summary, "value": len(EXAMPLES)}
        EXAMPLES.append(example.value)
        if example.status is not None:
            documented[name]["x-status"] = int(example.status)
    return {"examples": documented} if documented else {}


def _is_struct(answer: Any) -> bool:
    return isinstance(answer, type) and issubclass(answer, msgspec.Struct)


def _error_responses(errors: Sequence[type[PipelineError]]) -> dict[int, Any]:
    """The error responses of an operation by status, with an example for each code."""
    by_status: dict[int, dict[type[PipelineError], None]] = {}
    for error in errors:
        DOCUMENTED_ERRORS[error.code] = error
        by_status.setdefault(int(error_type(error).status), {})[error] = None
    return {
        status: {
            "description": "; ".join(dict.fromkeys(error_type(error).title for error in kinds))
            + ".",
            "headers": _headers("X-Request-Id", *_ERROR_HEADERS.get(status, ())),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {
                        error.code: {"$ref": f"#/components/examples/{error.code}"}
                        for error in kinds
                    },
                }
            },
        }
        for status, kinds in by_status.items()
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
