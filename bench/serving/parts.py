"""CPU time of one prediction inside the worker, in total and by part, without sockets.

The fast path is called as the protocol calls it, and each part is the function that the
application runs. Thread time is measured over many small batches: other load on the machine
makes some of them slower, never faster, so the least is the best estimate, and the median
shows the noise.
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

from bc_pipeline.prediction_log.entry import LogEntry, new_id
from bc_pipeline.serving.app import create_app
from bc_pipeline.serving.fast_path import FastPath
from bc_pipeline.serving.prediction import Prediction
from bc_pipeline.serving.request_context import RequestContext
from bc_pipeline.serving.services import Services
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
    """The whole fast path, then its parts, for one form of body."""
    return asyncio.run(_measure(volume, bodies, batches))


async def _measure(volume: Volume, bodies: Sequence[bytes], batches: int) -> list[Part]:
    settings = Settings(
        home=volume.home,
        rate_limit_key=ENVIRONMENT["BC_RATE_LIMIT_KEY"],
        rate_limit_address=ENVIRONMENT["BC_RATE_LIMIT_ADDRESS"],
    )
    app = create_app(settings, worker="bench")
    services: Services = app.state.services
    # Lines are encoded as in production, and discarded.
    log = AccessLog(stream=io.BytesIO())
    object.__setattr__(services, "access_log", log)
    async with app.router.lifespan_context(app):
        # As the server does.
        gc.collect()
        gc.freeze()
        assert app.fast_path is not None
        whole = _whole(app.fast_path, bodies, batches)
        parts = _parts(services, bodies, batches)
    rest = Part(
        "remainder: calls, headers",
        whole.least - sum(part.least for part in parts),
        whole.median - sum(part.median for part in parts),
    )
    return [whole, *parts, rest]


def _whole(fast_path: FastPath, bodies: Sequence[bytes], batches: int) -> Part:
    def answer(index: int) -> None:
        body = bodies[index % len(bodies)]
        if fast_path.answer("/predict", _headers(body), "127.0.0.1", body) is None:
            raise RuntimeError("not answered")

    return _time("the whole fast path", answer, batches)


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
    model, spool, metrics, limiter = (
        services.loaded_model,
        services.spool,
        services.metrics,
        services.rate_limiter,
    )
    assert spool is not None
    headers = _headers(bodies[0])
    context = RequestContext("127.0.0.1")
    context.caller = services.authenticator.caller_of_key(headers)
    context.route, context.model, context.status = "/predict", model.version, 200
    assert context.caller is not None
    samples = [model.parser.read(body) for body in bodies]
    entry = LogEntry(
        *(new_id(), time.time(), model.version, model.manifest_sha256, 0.75, True, 0.0004),
        *(context.caller.name, "predict", bytes(8 * len(samples[0].values)), None),
    )
    answer = Prediction(
        *(new_id(), 1, "benign", 0.75, {"malignant": 0.25, "benign": 0.75}, 0.4),
        *(model.version, model.manifest_sha256, ()),
    )
    encode = msgspec.json.Encoder().encode
    access_log = AccessLog(stream=io.BytesIO())

    def limits(index: int) -> None:
        client = services.addresses.client("127.0.0.1", headers)
        services.addresses.allowed(client)
        limiter.charge(client, "benchmark")

    def count(index: int) -> None:
        metrics.in_flight += 1
        metrics.count_predictions(model.version, 1, 1)
        metrics.count_request("/predict", "POST", 200, 0.0004)

    def predict(index: int) -> Any:
        values = samples[index % len(samples)].values
        model.pack_values(*values)
        return model.predictor.positive_one(values)

    functions: dict[str, Callable[[int], Any]] = {
        "ids of request and prediction": lambda index: (new_id(), new_id()),
        "address and limits": limits,
        "key": lambda index: services.authenticator.caller_of_key(headers),
        "parse and check the record": lambda index: model.parser.read(bodies[index % len(bodies)]),
        "model": predict,
        "training range": lambda index: model.training_range.contain(
            samples[index % len(samples)].values
        ),
        "record the answer": lambda index: spool.append([entry]),
        "encode the answer": lambda index: encode(answer),
        "metrics": count,
        "access log": lambda index: access_log.write(context, "POST", 0.0004),
    }
    parts = [_time(name, function, batches) for name, function in functions.items()]
    access_log.flush()
    return parts


def _time(name: str, function: Callable[[int], Any], batches: int) -> Part:
    seconds = []
    for _ in range(batches):
        began = time.thread_time()
        for index in range(_BATCH):
            function(index)
        seconds.append((time.thread_time() - began) / _BATCH * 1e6)
    return Part(name, min(seconds), statistics.median(seconds))
