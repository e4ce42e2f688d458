"""uvicorn with an application that reads the request and answers a constant: the floor."""

from __future__ import annotations

import os
from typing import Any

import uvicorn

BODY = os.environ["ANSWER"].encode()
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(BODY)).encode()),
    ],
}
ANSWER = {"type": "http.response.body", "body": BODY}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        continue
    await send(START)
    await send(ANSWER)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False, lifespan="off")
