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
encode = msgspec.json.Encoder().encode


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


def predict_one(
    services: Services, exchange: Exchange, live: Live, sample: Sample, route: str
) -> Prediction:
    """Answer one sample, and have the answer in the log before it is given.

    Raises
    ------
    DegenerateModel
        Where the model gives no probability.
    RecordsAway
        Where the answer cannot be recorded: then it is not given.
    """
    exchange.model = live.version
    probability = live.predictor.positive_one(sample.values)
    answer, entry = _call(live, sample, probability, time.time(), exchange, route)
    _record(services, live, (answer,), (entry,))
    return answer


def predict(
    services: Services, exchange: Exchange, live: Live, samples: Sequence[Sample], route: str
) -> list[Prediction]:
    """Answer samples with one model, all of them or none.

    Raises
    ------
    DegenerateModel, RecordsAway
        As `predict_one`.
    """
    if len(samples) == 1:
        return [predict_one(services, exchange, live, samples[0], route)]
    exchange.model = live.version
    values = np.frombuffer(b"".join([live.pack(*sample.values) for sample in samples]))
    positive = live.predictor.positive(values.reshape(len(samples), -1)).tolist()
    now = time.time()
    called = [
        _call(live, sample, probability, now, exchange, route)
        for sample, probability in zip(samples, positive, strict=True)
    ]
    answers = [answer for answer, _ in called]
    _record(services, live, answers, [entry for _, entry in called])
    return answers


def _call(
    live: Live, sample: Sample, probability: float, now: float, exchange: Exchange, route: str
) -> tuple[Prediction, Entry]:
    """What a probability means for the caller, and what is kept of it."""
    if not 0.0 <= probability <= 1.0:
        raise DegenerateModel(
            f"{live.version} did not answer with a probability.",
            candidate=live.manifest.recipe.candidate,
        )
    threshold = live.manifest.threshold
    called = probability > threshold
    yes, no = live.labels.positive, live.labels.negative
    label = yes if called else no
    identifier, caller = new_id(), exchange.caller
    answer = Prediction(
        identifier,
        label.code,
        label.name,
        probability if called else 1.0 - probability,
        {yes.name: probability, no.name: 1.0 - probability},
        threshold,
        live.version,
        live.manifest_sha256,
        ()
        if live.trained.hold(sample.values)
        else [Notice(name, UNUSUAL) for name in live.unusual(sample.values)],
        msgspec.UNSET if sample.id is None else sample.id,
    )
    entry = Entry(
        identifier,
        now,
        live.version,
        live.manifest_sha256,
        probability,
        called,
        exchange.seconds,
        caller.name if caller else "",
        route,
        live.pack(*sample.values),
        sample.id,
    )
    return answer, entry


def _record(
    services: Services, live: Live, answers: Sequence[Prediction], entries: Sequence[Entry]
) -> None:
    if services.spool is not None:
        services.spool.append(entries)
    positive = len([entry for entry in entries if entry.positive])
    services.metrics.predicted(live.version, positive, len(entries))
    for answer in answers:
        if answer.warnings:
            services.metrics.warned(notice.feature for notice in answer.warnings)


def predict_body(services: Services, exchange: Exchange, body: bytes) -> Reply:
    """Answer the body of ``POST /v1/predict``."""
    live = services.live
    exchange.model = live.version
    answer = predict_one(services, exchange, live, live.reader.read(body), "predict")
    return Reply(encode(answer), live.headers)


async def explain_body(services: Services, exchange: Exchange, body: bytes, route: str) -> Reply:
    """The same with what made the probability; explaining must not keep others waiting."""
    live = services.live
    exchange.model = live.version
    sample = live.reader.read(body)
    explanation = await asyncio.to_thread(_explain, live, sample)
    answer = predict_one(services, exchange, live, sample, route)
    answer.explanation = explanation
    return Reply(encode(answer), live.headers)


def _explain(live: Live, sample: Sample) -> Explanation:
    return live.explainer.explain(sample.values)
