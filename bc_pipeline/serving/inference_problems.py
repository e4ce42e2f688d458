"""Problems as clients of the Open Inference Protocol read them: they look for ``error``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bc_pipeline.errors import PipelineError
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.exchange import services_of
from bc_pipeline.serving.problem_details import from_error

_DEFECTS_TOLD = 10


class InferenceRoute(ScopedRoute):
    """A route whose problems also have the member ``error``: their detail, and first defects."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handler(request)
            except PipelineError as error:
                services_of(request).metrics.refused(error)
                return with_error(from_error(error))

        return told


def with_error(response: Response) -> Response:
    """Add ``error`` to the body of a problem."""
    content = msgspec.json.decode(bytes(response.body))
    told = [
        f"{defect['feature']} {defect['reason']}" if defect["feature"] else defect["reason"]
        for defect in content.get("defects", ())[:_DEFECTS_TOLD]
    ]
    content["error"] = " ".join([content["detail"], "; ".join(told)]).strip()
    response.body = msgspec.json.encode(content)
    response.headers["Content-Length"] = str(len(response.body))
    return response
