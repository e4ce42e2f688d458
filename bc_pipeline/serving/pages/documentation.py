"""What an operation says about itself, for the OpenAPI document.

A route takes its keywords from `operation`; `openapi_document` puts the parts of all routes
together and fills in what depends on the live model. Every example can be run: a test sends
each of them and holds the answer to what is documented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from bc_pipeline.errors import (
    AddressRefused,
    BodyTooSlow,
    HeaderRefused,
    KeyRefused,
    PipelineError,
    RateLimited,
    ScopeMissing,
)
from bc_pipeline.serving.admission import Required, needs
from bc_pipeline.serving.problem_details import MEDIA_TYPE, problem_type

if TYPE_CHECKING:
    from bc_pipeline.serving.model.live import Live

TITLE = "bc-pipeline prediction service"
NOTICE = "Decision support for research; not a medical device."
DESCRIPTION = f"""\
Calls one record malignant or benign from its features, with the model that is in production. \
{NOTICE}

The model gives the probability of malignant. The call is malignant exactly where that \
probability is above the version's threshold. The threshold is chosen for sensitivity and may \
lie below one half, so the label that is called can have a probability below one half: \
'probability' belongs to the label, 'threshold' to malignant.

'prediction' is scikit-learn's code of the label: 0 is malignant, 1 is benign.

Errors are RFC 9457 problems. All defects of a record are listed together, and no error \
repeats a value of the request."""

JSON = "application/json"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
MARKDOWN = "text/markdown"

Struct = type[msgspec.Struct]
Schema = Mapping[str, Any] | Struct
# Types of bodies and answers that operations have declared, by name.
STRUCTS: dict[str, Struct] = {}
# The same for problems, by code.
PROBLEMS_SHOWN: dict[str, type[PipelineError]] = {}
# What any operation that asks for credentials may answer.
_ADMISSION = (KeyRefused, ScopeMissing)
# Headers of answers, described once in the document.
MODEL_HEADERS = ("X-Model-Version", "X-Manifest-Sha256")
_ALWAYS = ("X-Request-Id",)
_PROBLEM_HEADERS: dict[int, tuple[str, ...]] = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
}


@dataclass(frozen=True)
class Example:
    """One body.

    Attributes
    ----------
    value : Any
        Plain JSON, or text for a body that is no JSON. A function of the live model gives
        what depends on it; it is left out of the document while none is live.
    status : int or None
        Of a request: what it is answered with, where that is not the first success.
    """

    summary: str
    value: Any
    status: int | None = None


@dataclass(frozen=True)
class Success:
    """One way to succeed.

    Attributes
    ----------
    answer : type of msgspec.Struct or JSON schema, optional
        What the body is, in JSON.
    contents : mapping of str to dict, optional
        Bodies of other media types, each made by `content`.
    headers : sequence of str
        Names from the document's components, beside X-Request-Id.
    example : Any
        An answer in JSON.
    """

    description: str
    answer: Schema | None = None
    contents: Mapping[str, dict[str, Any]] | None = None
    headers: Sequence[str] = ()
    example: Any = None


def operation(
    summary: str,
    *,
    scope: Required,
    answer: Schema | None = None,
    description: str = "The answer.",
    example: Any = None,
    status: int = HTTPStatus.OK,
    contents: Mapping[str, dict[str, Any]] | None = None,
    headers: Sequence[str] = (),
    others: Mapping[int, Success] | None = None,
    parameters: Sequence[dict[str, Any]] = (),
    body: dict[str, Any] | None = None,
    refusals: Sequence[type[PipelineError]] = (),
) -> dict[str, Any]:
    """Keyword arguments of a route: its scope and its part of the OpenAPI document.

    The operation's own description is the docstring of its endpoint.

    Parameters
    ----------
    answer, description, example, status, contents, headers
        The first success, as in `Success`: a JSON body is described by `answer`, bodies of
        other media types (a streamed answer, text) by `contents`.
    others : mapping of int to Success, optional
        Further successes by status.
    parameters : sequence of dict
        Made by `parameter`.
    body : dict, optional
        Made by `request_body`.
    refusals : sequence of error types
        What the operation may raise, beside what every operation may.
    """
    extra: dict[str, Any] = needs(scope)
    if scope != "public":
        extra["security"] = [{"ApiKey": [scope]}, {"Bearer": [scope]}]
    if parameters:
        extra["parameters"] = list(parameters)
    if body is not None:
        extra["requestBody"] = body
    first = Success(description, answer, contents, headers, example)
    successes = {int(status): first} | dict(others or {})
    extra["responses"] = {
        str(code): _response(success) for code, success in sorted(successes.items())
    } | _refusals([*refusals, *([BodyTooSlow] if body else [])], scope, parameters)
    return {"summary": summary, "openapi_extra": extra}


def content(schema: Schema, **examples: Example) -> dict[str, Any]:
    """One media type of a body: its schema, and examples by name.

    Parameters
    ----------
    schema : type of msgspec.Struct or JSON schema
        A schema of plain text is ``{"type": "string"}``.
    """
    shown: dict[str, Any] = {"schema": reference(schema)}
    if examples:
        shown["examples"] = {
            name: {"summary": example.summary, "value": example.value}
            | ({} if example.status is None else {"x-status": int(example.status)})
            for name, example in examples.items()
        }
    return shown


def request_body(
    contents: Mapping[str, dict[str, Any]], description: str = "", *, required: bool = True
) -> dict[str, Any]:
    """The body of a request, by media type; each value is made by `content`."""
    made: dict[str, Any] = {"required": required, "content": dict(contents)}
    return made | ({"description": description} if description else {})


def parameter(
    name: str,
    where: Literal["path", "query", "header"],
    description: str,
    *,
    schema: Mapping[str, Any] | None = None,
    example: Any = None,
    required: bool | None = None,
) -> dict[str, Any]:
    """A parameter of an operation; one in the path is required, another is not unless said.

    Parameters
    ----------
    schema : JSON schema, optional
        Text, where it is not given.
    example : Any
        What the running examples of the operation send.
    """
    made: dict[str, Any] = {
        "name": name,
        "in": where,
        "description": description,
        "required": where == "path" if required is None else required,
        "schema": dict(schema or {"type": "string"}),
    }
    return made | ({} if example is None else {"example": example})


def reference(schema: Schema) -> dict[str, Any]:
    """Where the schema of a type stands in the document; a JSON schema is itself."""
    if isinstance(schema, Mapping):
        return dict(schema)
    known = STRUCTS.setdefault(schema.__name__, schema)
    if known is not schema:
        raise TypeError(f"Two types are called {schema.__name__}: rename one.")
    return {"$ref": f"#/components/schemas/{schema.__name__}"}


def _response(success: Success) -> dict[str, Any]:
    contents: dict[str, Any] = {}
    if success.answer is not None:
        examples = (
            {}
            if success.example is None
            else {"answer": Example(success.description, success.example)}
        )
        contents[JSON] = content(success.answer, **examples)
    contents |= success.contents or {}
    made: dict[str, Any] = {
        "description": success.description,
        "headers": _headers((*_ALWAYS, *success.headers)),
    }
    return made | ({"content": contents} if contents else {})


def _refusals(
    refusals: Sequence[type[PipelineError]],
    scope: Required,
    parameters: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The problems of an operation by status, each with its codes as examples."""
    kinds: list[type[PipelineError]] = [*refusals, AddressRefused, RateLimited, PipelineError]
    if scope != "public":
        kinds += _ADMISSION
    if any(given["in"] != "path" for given in parameters):
        kinds.append(HeaderRefused)
    found: dict[int, dict[type[PipelineError], None]] = {}
    for kind in kinds:
        PROBLEMS_SHOWN[kind.code] = kind
        found.setdefault(int(problem_type(kind).status), {})[kind] = None
    return {
        str(status): {
            "description": "; ".join(dict.fromkeys(problem_type(kind).title for kind in shown))
            + ".",
            "headers": _headers((*_ALWAYS, *_PROBLEM_HEADERS.get(status, ()))),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {
                        kind.code: {"$ref": f"#/components/examples/{kind.code}"} for kind in shown
                    },
                }
            },
        }
        for status, shown in sorted(found.items())
    }


def _headers(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def named_record(live: Live) -> dict[str, Any]:
    """The centre of the rows that the live model was trained on, by name."""
    return dict(zip(live.manifest.feature_schema.names, live.example, strict=True))


def listed_record(live: Live) -> dict[str, Any]:
    """The same as a list of numbers, with an id."""
    return {"id": "sample-1", "features": list(live.example)}


def called_record(live: Live) -> dict[str, Any]:
    """What an answer looks like; its probability is made up."""
    positive, negative = live.labels.positive, live.labels.negative
    return {
        "prediction_id": "01900000-0000-7000-8000-000000000000",
        "prediction": positive.code,
        "label": positive.name,
        "probability": 0.97,
        "probabilities": {positive.name: 0.97, negative.name: 0.03},
        "threshold": live.manifest.threshold,
        "model_version": live.version,
        "manifest_sha256": live.manifest_sha256,
        "warnings": [],
        "id": "sample-1",
    }


RECORD = {"$ref": "#/components/schemas/Record"}
RECORD_BODY = request_body(
    {
        JSON: content(
            RECORD,
            named=Example("Named features", named_record),
            numbers=Example("Numbers in the order of the features, with an id", listed_record),
            incomplete=Example("A record that lacks features", {"features": {}}, status=422),
        )
    }
)
