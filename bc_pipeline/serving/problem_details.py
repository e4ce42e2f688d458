"""Every error as an RFC 9457 problem, ``application/problem+json``.

`PROBLEMS` is the one table from error class to status. No field of a problem ever repeats
a value of the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from bc_pipeline import errors
from bc_pipeline.serving.exchange import exchange_of, services_of

MEDIA_TYPE = "application/problem+json"
# Address of the page that explains every problem.
PAGE = "/problems"
RETRY_AFTER_SECONDS = 2
_INFERENCE = "/v2"
_DEFECTS_TOLD = 10


@dataclass(frozen=True)
class ProblemType:
    """What one class of errors looks like to a client."""

    status: HTTPStatus
    title: str


PROBLEMS: dict[type[errors.PipelineError], ProblemType] = {
    errors.BodyUnreadable: ProblemType(HTTPStatus.BAD_REQUEST, "The body cannot be read"),
    errors.HeaderRefused: ProblemType(HTTPStatus.BAD_REQUEST, "A header or parameter is wrong"),
    errors.KeyRefused: ProblemType(HTTPStatus.UNAUTHORIZED, "Credentials are needed"),
    errors.ScopeMissing: ProblemType(HTTPStatus.FORBIDDEN, "The credentials do not allow this"),
    errors.AddressRefused: ProblemType(HTTPStatus.FORBIDDEN, "The address is not allowed"),
    errors.NotThere: ProblemType(HTTPStatus.NOT_FOUND, "There is no such thing"),
    errors.VersionNotFound: ProblemType(HTTPStatus.NOT_FOUND, "There is no such version"),
    errors.BodyTooSlow: ProblemType(HTTPStatus.REQUEST_TIMEOUT, "The body came too slowly"),
    errors.KeyReused: ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY, "The idempotency key belongs to another request"
    ),
    errors.OutcomeConflict: ProblemType(HTTPStatus.CONFLICT, "Another outcome is recorded"),
    errors.RecordExpired: ProblemType(HTTPStatus.GONE, "The record was removed"),
    errors.BodyTooLarge: ProblemType(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    errors.MediaTypeRefused: ProblemType(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is of another type"
    ),
    errors.RateLimited: ProblemType(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    errors.RequestRefused: ProblemType(HTTPStatus.BAD_REQUEST, "The request is not taken"),
    errors.SchemaMismatch: ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY, "The input does not fit the features"
    ),
    errors.DataError: ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "The input is not fit"),
    errors.NoChampion: ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "No model is live"),
    errors.AirflowRefused: ProblemType(HTTPStatus.BAD_GATEWAY, "Airflow refused"),
    errors.AirflowAway: ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "Airflow does not answer"),
    errors.RecordsAway: ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "Records cannot be kept"),
    errors.TransientError: ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "Try again"),
    errors.PipelineError: ProblemType(HTTPStatus.INTERNAL_SERVER_ERROR, "The service is at fault"),
}

# What is refused before any of our code runs.
ROUTER_PROBLEMS: dict[HTTPStatus, str] = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address; GET / lists what there is.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The address does not take this method.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request line and headers are too large.",
}


def problem_type(error: type[errors.PipelineError]) -> ProblemType:
    """The entry of the nearest class above `error` that has one."""
    return next(PROBLEMS[kind] for kind in error.__mro__ if kind in PROBLEMS)


def problem_response(
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    **extensions: Any,
) -> Response:
    """Build a problem; ``type`` points at its paragraph of the page of problems."""
    content = {
        "type": f"{PAGE}#{code}",
        "title": title,
        "status": int(status),
        "detail": detail,
        "code": code,
    } | extensions
    return Response(
        msgspec.json.encode(content), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )


def from_error(error: errors.PipelineError, **extensions: Any) -> Response:
    """The problem of one of our errors, with all its defects.

    A fault of the service shows no message: that is for its log.
    """
    kind = problem_type(type(error))
    if kind.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return internal_error()
    if isinstance(error, errors.SchemaMismatch | errors.FileRefused):
        extensions["defects"] = [defect_members(defect) for defect in error.defects]
    headers = {}
    if isinstance(error, errors.RateLimited):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, errors.ScopeMissing):
        extensions["scope"] = error.scope
    if kind.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="bc-pipeline"'
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    detail = f"{error.message} {error.remedy}".rstrip()
    return problem_response(kind.status, error.code, kind.title, detail, headers, **extensions)


def defect_members(defect: errors.Defect) -> dict[str, Any]:
    """A defect as answers show it; the line only where it comes from a file."""
    members: dict[str, Any] = {"feature": defect.column, "reason": defect.reason}
    return members if defect.line is None else {"line": defect.line} | members


def problem_example(error: type[errors.PipelineError]) -> dict[str, Any]:
    """What a client sees of an error, for the documentation."""
    shown = problem_type(error)
    if shown.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        content: dict[str, Any] = msgspec.json.decode(bytes(internal_error().body))
        return content
    return {
        "type": f"{PAGE}#{error.code}",
        "title": shown.title,
        "status": int(shown.status),
        "detail": meaning(error),
        "code": error.code,
    }


def meaning(error: type[errors.PipelineError]) -> str:
    """What an error says in general: the first sentence of its docstring."""
    return (error.__doc__ or "").strip().splitlines()[0].replace("``", "'")


def internal_error() -> Response:
    kind = PROBLEMS[errors.PipelineError]
    return problem_response(
        kind.status,
        errors.PipelineError.code,
        kind.title,
        "The request could not be answered; the service's log says why.",
    )


def as_read_at(path: str, problem: Response) -> Response:
    """A problem in the form that clients of an address look for.

    Clients of the Open Inference Protocol look for ``error``: the detail and first defects.
    """
    if not path.startswith(_INFERENCE):
        return problem
    content = msgspec.json.decode(bytes(problem.body))
    told = [
        f"{defect['feature']} {defect['reason']}" if defect["feature"] else defect["reason"]
        for defect in content.get("defects", ())[:_DEFECTS_TOLD]
    ]
    content["error"] = " ".join([content["detail"], "; ".join(told)]).strip()
    problem.body = msgspec.json.encode(content)
    problem.headers["Content-Length"] = str(len(problem.body))
    return problem


def log_fault(request_id: str, error: Exception) -> None:
    """Log an error that is the service's fault, whose answer points at the log.

    Only its class, code and place: its message may hold a value.
    """
    code = errors.PipelineError.code
    if isinstance(error, errors.PipelineError):
        code = error.code
        if problem_type(type(error)).status != HTTPStatus.INTERNAL_SERVER_ERROR:
            return
    structlog.get_logger().error(
        "request_failed", request=request_id, code=code, error=place(error)
    )


def place(error: Exception) -> str:
    """Class of an error and the line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} at {code.co_filename}:{trace.tb_lineno} in {code.co_qualname}"


async def handle_pipeline_error(request: Request, error: Exception) -> Response:
    """Exception handler for `PipelineError`."""
    assert isinstance(error, errors.PipelineError)
    log_fault(exchange_of(request).id, error)
    services_of(request).metrics.refused(error)
    return as_read_at(request.scope["path"], from_error(error))


async def handle_fault(request: Request, error: Exception) -> Response:
    """Exception handler for what nothing else handles; it is raised on, to be logged."""
    return as_read_at(request.scope["path"], internal_error())


async def handle_http_error(request: Request, error: Exception) -> Response:
    """Exception handler for what the router itself refuses: 404 and 405."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = allowed_methods(request)
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    detail = ROUTER_PROBLEMS.get(status, status.description)
    problem = problem_response(status, router_code(status), status.phrase, detail, headers)
    return as_read_at(request.scope["path"], problem)


async def handle_parameter_error(request: Request, error: Exception) -> Response:
    """Exception handler for a parameter that the framework refuses; it shows no value."""
    assert isinstance(error, RequestValidationError)
    names = sorted({str(found["loc"][-1]) for found in error.errors()})
    refused = errors.HeaderRefused(f"Missing or malformed: {', '.join(names)}.", header=names[0])
    return as_read_at(request.scope["path"], from_error(refused))


def allowed_methods(request: Request) -> str:
    """Methods of all the routes at a request's address, for the Allow header."""
    found = {"OPTIONS"}
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= route.methods
    return ", ".join(sorted(found))


def router_code(status: HTTPStatus) -> str:
    """Code of a problem that the router found, such as ``not-found``."""
    return status.phrase.casefold().replace(" ", "-")
