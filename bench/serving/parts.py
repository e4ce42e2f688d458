"""What one prediction costs inside the worker, part by part, without sockets.

The short way is the real one, called as the protocol calls it; each part is the very function
that the application runs. Thread time of many small batches: other load on the machine makes
some of them slow, never fast, so the least is the best estimate and the median shows the noise.
"""

from __future__ import annotations

import asyncio
import gc
import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bc_pipeline.records.entry import Entry, new_id
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.exchange import Exchange
from bc_pipeline.serving.predict import Prediction
from bc_pipeline.serving.services import Services
from bc_pipeline.serving.short_way import ShortWay
from bc_pipeline.serving.telemetry.access_log import AccessLog
from bc_pipeline.settings import Settings
from serving.volume import ENVIRONMENT, KEY, Volume

_BATCH = 100


@dataclass(frozen=True)
class Part:
    """Microseconds of one prediction."""

    name: str
    least: float
    median: float


def measure_parts(volume: Volume, bodies: Sequence[bytes], batches: int) -> list[Part]:
    """The whole short way, then its parts, for one form of body."""
    return asyncio.run(_measure(volume, bodies, batches))


async def _measure(volume: Volume, bodies: Sequence[bytes], batches: int) -> list[Part]:
    settings = Settings(
        home=volume.home,
        rate_limit_key=ENVIRONMENT["BC_RATE_LIMIT_KEY"],
        rate_limit_address=ENVIRONMENT["BC_RATE_LIMIT_ADDRESS"],
    )
    app = create_app(settings, worker="bench")
    services: Services = app.state.services
    # The bytes are made as always, and go nowhere.
    log = AccessLog(stream=io.BytesIO())
    object.__setattr__(services, "log", log)
    async with app.router.lifespan_context(app):
        # As the server does.
        gc.collect()
        gc.freeze()
        assert app.short_way is not None
        whole = _whole(app.short_way, bodies, batches)
        parts = _parts(services, bodies, batches)
    rest = Part(
        "the rest: the call, headers",
        whole.least - sum(part.least for part in parts),
        whole.median - sum(part.median for part in parts),
    )
    return [whole, *parts, rest]


def _whole(short_way: ShortWay, bodies: Sequence[bytes], batches: int) -> Part:
    def answer(index: int) -> None:
        body = bodies[index % len(bodies)]
        if short_way.answer("/predict", _headers(body), "127.0.0.1", body) is None:
            raise RuntimeError("not answered")

    return _time("the whole short way", answer, batches)


def _headers(body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"host", b"127.0.0.1:8000"),
        (b"user-agent", b"bench"),
        (b"accept", b"application/json"),
        (b"content-type", b"application/json"),
        (b"x-api-key", KEY.encode()),
        (b"content-length", b"%d" % len(body)),
    ]


def _parts(services: Services, bodies: Sequence[bytes], batches: int) -> list[Part]:
    live, spool, metrics, limiter = (
        services.live,
        services.spool,
        services.metrics,
        services.limiter,
    )
    assert spool is not None
    headers = _headers(bodies[0])
    exchange = Exchange("127.0.0.1")
    exchange.caller = services.guard.admit(headers, b"", "predict")
    exchange.route, exchange.model, exchange.status = "/predict", live.version, 200
    assert exchange.caller is not None
    samples = [live.reader.read(body) for body in bodies]
    entry = Entry(
        *(new_id(), time.time(), live.version, live.manifest_sha256, 0.75, True, 0.0004),
        *(exchange.caller.name, "predict", bytes(8 * len(samples[0].values)), None),
    )
    answer = Prediction(
        *(new_id(), 1, "benign", 0.75, {"malignant": 0.25, "benign": 0.75}, 0.4),
        *(live.version, live.manifest_sha256, ()),
    )
    encode = msgspec.json.Encoder().encode
    writes = AccessLog(stream=io.BytesIO())

    def limits(index: int) -> None:
        client = services.addresses.client("127.0.0.1", headers)
        services.addresses.allowed(client)
        limiter.has_room(client, "benchmark")
        limiter.spend_address(client)
        limiter.spend_key("benchmark")

    def count(index: int) -> None:
        metrics.in_flight += 1
        metrics.predicted(live.version, 1, 1)
        metrics.answered("/predict", "POST", 200, 0.0004)

    def model(index: int) -> Any:
        values = samples[index % len(samples)].values
        live.pack(*values)
        return live.predictor.positive_one(values)

    functions: dict[str, Callable[[int], Any]] = {
        "ids of request and prediction": lambda index: (new_id(), new_id()),
        "address and limits": limits,
        "key": lambda index: services.guard.admit(headers, b"", "predict"),
        "read and check the record": lambda index: live.reader.read(bodies[index % len(bodies)]),
        "model": model,
        "ranges of training": lambda index: live.trained.hold(samples[index % len(samples)].values),
        "record the answer": lambda index: spool.append([entry]),
        "write the answer": lambda index: encode(answer),
        "metrics": count,
        "access log": lambda index: writes.write(exchange, "POST", 0.0004),
    }
    parts = [_time(name, function, batches) for name, function in functions.items()]
    writes.flush()
    return parts


def _time(name: str, function: Callable[[int], Any], batches: int) -> Part:
    taken = []
    for _ in range(batches):
        began = time.thread_time()
        for index in range(_BATCH):
            function(index)
        taken.append((time.thread_time() - began) / _BATCH * 1e6)
    return Part(name, min(taken), statistics.median(taken))
