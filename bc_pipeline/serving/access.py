"""The outermost layer: one log line for each request, and an answer whatever happens."""

from __future__ import annotations

import secrets
import time
from http import HTTPStatus

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bc_pipeline.serving import problem_details

# nginx's number for a client that went away before the answer.
CLIENT_GONE = 499


class AccessLog:
    """ASGI middleware: logs method, address, status and time, never a value.

    An address that the service does not have may hold anything, so it is not logged; nor
    are query strings, headers or bodies. An error that nothing else handled becomes a
    problem with status 500 and a log line with the class of the error and its place.
    """

    def __init__(self, app: ASGIApp, paths: frozenset[str]) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        log = structlog.get_logger()
        request_id = secrets.token_hex(8)
        status = 0
        started = time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            log.error("request_failed", request=request_id, error=_place(error))
            if status == 0:
                await problem_details.internal_error()(scope, receive, answer)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        finally:
            log.info(
                "request",
                request=request_id,
                method=scope["method"] if scope["method"].isalpha() else "(other)",
                path=scope["path"] if scope["path"] in self._paths else "(other)",
                status=int(status),
                ms=round((time.perf_counter() - started) * 1000, 2),
                model=scope.get("state", {}).get("model_version"),
            )


def _place(error: Exception) -> str:
    """Class of an error and the line that raised it; its message may hold a value."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} at {code.co_filename}:{trace.tb_lineno} in {code.co_qualname}"
