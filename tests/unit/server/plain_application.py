"""An application without models: the server needs nothing else."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

from bc_pipeline.server.application import Headers
from bc_pipeline.settings import Settings


class PlainApplication:
    """Answers every request with the names of the package's modules in its process."""

    fast_path = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        body = json.dumps([name for name in sys.modules if name.startswith("bc_pipeline")]).encode()
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    def protocol_error(
        self, status: HTTPStatus, detail: str, request: Headers
    ) -> tuple[Headers, bytes]:
        return [], f"{status} {detail}".encode()


def create(settings: Settings, *, worker: str, folder: Path | None = None) -> PlainApplication:
    return PlainApplication()
