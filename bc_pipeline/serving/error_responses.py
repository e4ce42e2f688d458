"""Error responses: RFC 9457 problem details, ``application/problem+json``.

`ERROR_TYPES` maps error classes to statuses. No error response repeats a value of the request.
"""

from __future__ import annotations

import traceback
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
from bc_pipeline.serving.request_context import context_of
from bc_pipeline.serving.services import services_of
from bc_pipeline.settings import Settings

MEDIA_TYPE = "application/problem+json"
# Path of the page that explains every error code.
ERRORS_PAGE = "/problems"
RETRY_AFTER_SECONDS = 2
_INFERENCE_PROTOCOL = "/v2"
_DEFECTS_IN_MESSAGE = 10


@dataclass(frozen=True)
class ErrorType:
    """Status and title of the responses for one error class and its subclasses."""

    status: HTTPStatus
    title: str


ERROR_TYPES = {
    kind: ErrorType(HTTPStatus(status), title)
    for kind, status, title in (
        (errors.BodyUnreadable, 400, "The body cannot be read"),
        (errors.HeaderRefused, 400, "A header or parameter is wrong"),
        (errors.KeyRefused, 401, "Credentials are needed"),
        (errors.ScopeMissing, 403, "The credentials do not allow this"),
        (errors.AddressRefused, 403, "The address is not allowed"),
        (errors.NotThere, 404, "There is no such thing"),
        (errors.VersionNotFound, 404, "There is no such version"),
        (errors.BodyTooSlow, 408, "The body came too slowly"),
        (errors.KeyReused, 422, "The idempotency key belongs to another request"),
        (errors.OutcomeConflict, 409, "Another outcome is recorded"),
        (errors.RecordExpired, 410, "The record was removed"),
        (errors.BodyTooLarge, 413, "The body is too large"),
        (errors.MediaTypeRefused, 415, "The body is of another type"),
        (errors.RateLimited, 429, "Too many requests"),
        (errors.RequestRefused, 400, "The request is not taken"),
        (errors.SchemaMismatch, 422, "The input is not valid"),
        (errors.DataError, 422, "The input is not fit"),
        (errors.NoChampion, 503, "No model is live"),
        (errors.AirflowRefused, 502, "Airflow refused"),
        (errors.AirflowAway, 503, "Airflow does not answer"),
        (errors.RecordsAway, 503, "Records cannot be kept"),
        (errors.TransientError, 503, "Try again"),
        (errors.PipelineError, 500, "The service is at fault"),
    )
}

# Details of errors that the router or the HTTP server raises, not our code.
ROUTER_ERRORS: dict[HTTPStatus, str] = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address; GET / lists what there is.",
    HTTPStatus.METHOD_NOT_ALLOWED: "The address does not take this method.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request line and headers are too large.",
}


def error_type(error: type[errors.PipelineError]) -> ErrorType:
    """The entry for an error class, or for its nearest base class that has one."""
    return next(ERROR_TYPES[kind] for kind in error.__mro__ if kind in ERROR_TYPES)


def error_response(
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    **extensions: Any,
) -> Response:
    """Build an error response; ``type`` links to the code on the page of errors."""
    content = {
        "type": f"{ERRORS_PAGE}#{code}",
        "title": title,
        "status": int(status),
        "detail": detail,
        "code": code,
    } | extensions
    return Response(
        msgspec.json.encode(content), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )


def from_error(error: errors.PipelineError, **extensions: Any) -> Response:
    """The response for an error, with all its defects.

    An internal error shows no message; the message is in the service's log.
    """
    kind = error_type(type(error))
    if kind.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return internal_error()
    if isinstance(error, errors.SchemaMismatch | errors.FileRefused):
        extensions["defects"] = [_serialize_defect(defect) for defect in error.defects]
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
    return error_response(kind.status, error.code, kind.title, detail, headers, **extensions)


def _serialize_defect(defect: errors.Defect) -> dict[str, Any]:
    """A defect as JSON; with the line only where it has one."""
    members: dict[str, Any] = {"feature": defect.column, "reason": defect.reason}
    return members if defect.line is None else {"line": defect.line} | members


def error_example(error: type[errors.PipelineError]) -> dict[str, Any]:
    """An example of the response for an error class, for the documentation."""
    content = msgspec.json.decode(bytes(from_error(error(describe(error))).body))
    return {name: content[name] for name in ("type", "title", "status", "detail", "code")}


def describe(error: type[errors.PipelineError]) -> str:
    """General description of an error class: the first line of its docstring."""
    return (error.__doc__ or "").strip().splitlines()[0].replace("``", "'")


def internal_error() -> Response:
    kind = ERROR_TYPES[errors.PipelineError]
    return error_response(
        kind.status,
        errors.PipelineError.code,
        kind.title,
        "The request could not be answered; the service's log says why.",
    )


def complete(response: Response, path: str, settings: Settings) -> Response:
    """Complete an error response with what depends on the request and on the settings.

    That is the prefix of the link to the page of errors and, below ``/v2``, the member ``error`` of
    the Open Inference Protocol, which repeats the detail and the first defects.
    """
    is_inference = path.startswith(_INFERENCE_PROTOCOL)
    if not is_inference and not settings.root_path:
        return response
    content = msgspec.json.decode(bytes(response.body))
    content["type"] = settings.root_path + content["type"]
    if is_inference:
        messages = [
            f"{defect['feature']} {defect['reason']}" if defect["feature"] else defect["reason"]
            for defect in content.get("defects", ())[:_DEFECTS_IN_MESSAGE]
        ]
        content["error"] = " ".join([content["detail"], "; ".join(messages)]).strip()
    response.body = msgspec.json.encode(content)
    response.headers["Content-Length"] = str(len(response.body))
    return response


def complete_for(request: Request, response: Response) -> Response:
    """Complete the error response to a request."""
    return complete(response, request.scope["path"], services_of(request).settings)


def log_internal_error(request_id: str, error: Exception) -> None:
    """Log an error that is answered with status 500; other errors are not logged here.

    Only class, code and source line: the message may contain a value of the request.
    """
    code = errors.PipelineError.code
    if isinstance(error, errors.PipelineError):
        code = error.code
        if error_type(type(error)).status != HTTPStatus.INTERNAL_SERVER_ERROR:
            return
    structlog.get_logger().error(
        "request_failed", request=request_id, code=code, error=_raised_at(error)
    )


def _raised_at(error: Exception) -> str:
    """Class of an error and the source line that raised it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return type(error).__name__
    frame, line = frames[-1]
    code = frame.f_code
    return f"{type(error).__name__} at {code.co_filename}:{line} in {code.co_qualname}"


async def handle_pipeline_error(request: Request, error: Exception) -> Response:
    """Exception handler for `PipelineError`."""
    assert isinstance(error, errors.PipelineError)
    log_internal_error(context_of(request).id, error)
    services_of(request).metrics.count_error(error)
    return complete_for(request, from_error(error))


async def handle_internal_error(request: Request, error: Exception) -> Response:
    """Exception handler for every other exception; Starlette raises it again afterwards."""
    return complete_for(request, internal_error())


async def handle_http_error(request: Request, error: Exception) -> Response:
    """Exception handler for errors of the router: 404 and 405."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = allowed_methods(request)
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    detail = ROUTER_ERRORS.get(status, status.description)
    response = error_response(status, router_code(status), status.phrase, detail, headers)
    return complete_for(request, response)


async def handle_parameter_error(request: Request, error: Exception) -> Response:
    """Exception handler for parameters that FastAPI refuses; the response shows no value."""
    assert isinstance(error, RequestValidationError)
    # The messages of pydantic name the constraint, not the value.
    reasons = {str(defect["loc"][-1]): defect["msg"] for defect in error.errors()}
    message = "; ".join(f"'{name}': {reason}" for name, reason in reasons.items())
    refused = errors.HeaderRefused(f"{message}.", header=next(iter(reasons)))
    return complete_for(request, from_error(refused))


def allowed_methods(request: Request) -> str:
    """Methods of all routes that match a request's path, for the Allow header."""
    methods = {"OPTIONS"}
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= route.methods
    return ", ".join(sorted(methods))


def protocol_error(status: HTTPStatus, detail: str) -> Response:
    """Build the response to a request that the HTTP protocol rejects."""
    if status == HTTPStatus.BAD_REQUEST:
        return from_error(errors.RequestRefused(detail))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return from_error(errors.BodyTooLarge(detail))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return internal_error()
    return error_response(status, router_code(status), status.phrase, detail)


def router_code(status: HTTPStatus) -> str:
    """Code of an error of the router, such as ``not-found``."""
    return status.phrase.casefold().replace(" ", "-")
