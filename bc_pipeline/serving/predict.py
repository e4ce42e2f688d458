"""From a sound sample to a recorded answer: the one way that every prediction takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from bc_pipeline.errors import DegenerateModel
from bc_pipeline.records.entry import Entry, new_id
from bc_pipeline.serving.bodies.body import Sample
from bc_pipeline.serving.exchange import Exchange
from bc_pipeline.serving.model.explain import Explanation
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.services import Services

UNUSUAL = "is outside the range of the rows that the model was trained on"
_encoder = msgspec.json.Encoder()


class Notice(msgspec.Struct):
    """A warning about one feature of a record."""

    feature: str
    reason: str


class Prediction(msgspec.Struct, omit_defaults=True):
    """The answer to one record; its fields and their order are the API's contract.

    Attributes
    ----------
    prediction : int
        scikit-learn's code of the label.
    probability : float
        Of the label that is called.
    threshold : float
        The call is the positive label where that label's probability is above it.
    id : str
        The caller's own name for the record, where it gave one.
    explanation : Explanation
        Where it was asked for.
    """

    prediction_id: str
    prediction: int
    label: str
    probability: float
    probabilities: dict[str, float]
    threshold: float
    model_version: str
    manifest_sha256: str
    warnings: Sequence[Notice]
    id: str | msgspec.UnsetType = msgspec.UNSET
    explanation: Explanation | msgspec.UnsetType = msgspec.UNSET


class Reply(msgspec.Struct, frozen=True):
    """Body and headers of a success."""

    body: bytes
    headers: Sequence[tuple[bytes, bytes]]


def predict(
    services: Services, exchange: Exchange, live: Live, samples: Sequence[Sample], route: str
) -> list[Prediction]:
    """Answer samples with one model, and have every answer in the log before it is given.

    Raises
    ------
    DegenerateModel
        Where the model gives no probability.
    RecordsAway
        Where the answers cannot be recorded: then none is given.
    """
    exchange.model = live.version
    rows = [live.pack(*sample.values) for sample in samples]
    if len(rows) == 1:
        positive = [live.predictor.positive_one(samples[0].values)]
    else:
        values = np.frombuffer(b"".join(rows)).reshape(len(rows), -1)
        positive = live.predictor.positive(values).tolist()
    manifest, labels = live.manifest, live.labels
    threshold, version, digest = manifest.threshold, manifest.version, live.manifest_sha256
    caller = exchange.caller.name if exchange.caller else ""
    now, latency = time.time(), exchange.seconds
    yes, no = labels.positive, labels.negative
    answers, entries = [], []
    for sample, row, probability in zip(samples, rows, positive, strict=True):
        if not 0.0 <= probability <= 1.0:
            raise DegenerateModel(
                f"{version} did not answer with a probability.",
                candidate=manifest.recipe.candidate,
            )
        called = probability > threshold
        label = yes if called else no
        identifier = new_id()
        answers.append(
            Prediction(
                identifier,
                label.code,
                label.name,
                probability if called else 1.0 - probability,
                {yes.name: probability, no.name: 1.0 - probability},
                threshold,
                version,
                digest,
                ()
                if live.trained.hold(sample.values)
                else [Notice(name, UNUSUAL) for name in live.unusual(sample.values)],
                msgspec.UNSET if sample.id is None else sample.id,
            )
        )
        entries.append(
            Entry(
                identifier,
                now,
                version,
                digest,
                probability,
                called,
                latency,
                caller,
                route,
                row,
                sample.id,
            )
        )
    if services.spool is not None:
        services.spool.append(entries)
    services.metrics.predicted(version, sum(entry.positive for entry in entries), len(entries))
    for answer in answers:
        if answer.warnings:
            services.metrics.warned(notice.feature for notice in answer.warnings)
    return answers


def predict_body(services: Services, exchange: Exchange, body: bytes) -> Reply:
    """Answer the body of ``POST /v1/predict``."""
    live = services.live
    exchange.model = live.version
    sample = live.reader.read(body)
    answer = predict(services, exchange, live, (sample,), "predict")[0]
    return Reply(_encoder.encode(answer), live.headers)


async def explain_body(services: Services, exchange: Exchange, body: bytes, route: str) -> Reply:
    """The same with what made the probability; explaining must not keep others waiting."""
    live = services.live
    exchange.model = live.version
    sample = live.reader.read(body)
    explanation = await asyncio.to_thread(_explain, live, sample)
    answer = predict(services, exchange, live, (sample,), route)[0]
    answer.explanation = explanation
    return Reply(_encoder.encode(answer), live.headers)


def _explain(live: Live, sample: Sample) -> Explanation:
    return live.explainer.explain(sample.values)
