"""Predicts parsed samples, and records each answer before it is returned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from bc_pipeline.explanation.explainer import Explanation
from bc_pipeline.prediction_log.entry import LogEntry, new_ids
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.request_context import RequestContext
from bc_pipeline.serving.request_parsing.fast_record import Sample
from bc_pipeline.serving.services import Services

OUTSIDE_TRAINING_RANGE = "is outside the range of the rows that the model was trained on"
# Predicted in about two milliseconds.
_ROWS_PER_STEP = 256
encode = msgspec.json.Encoder().encode


class Notice(msgspec.Struct, gc=False):
    """A warning about one feature of a record."""

    feature: str
    reason: str


class Prediction(msgspec.Struct, omit_defaults=True, gc=False):
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
        If it was requested.
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


def predict_one(
    services: Services, context: RequestContext, model: LoadedModel, sample: Sample, route: str
) -> Prediction:
    """Predict one sample and write the answer to the prediction log.

    Raises
    ------
    DegenerateModel
        Where the model gives no probability.
    RecordsAway
        Where the answer cannot be written to the log; it must not be sent then.
    """
    context.model = model.version
    answer, entry = classify_one(model, sample, context, route)
    log_entries(services, (entry,))
    count_answers(services, model, (answer,), (entry,))
    return answer


def classify_one(
    model: LoadedModel, sample: Sample, context: RequestContext, route: str
) -> tuple[Prediction, LogEntry]:
    """The answer to one sample, and the log entry that has to be written before it is sent.

    Raises
    ------
    DegenerateModel
    """
    values = sample.values
    probability = model.predictor.positive_one(values)
    packed = model.pack_values(*values)
    in_range = model.training_range.contain(values)
    (classified,) = _classify(model, ((sample, probability, packed, in_range),), context, route)
    return classified


async def predict_rows(
    services: Services,
    context: RequestContext,
    model: LoadedModel,
    samples: Sequence[Sample],
    route: str,
) -> list[Prediction]:
    """Predict and record samples with one model, yielding to other requests in between.

    Raises
    ------
    DegenerateModel, RecordsAway
        As `predict_one`. Rows that were predicted before stay in the log.
    """
    context.model = model.version
    answers: list[Prediction] = []
    for start in range(0, len(samples), _ROWS_PER_STEP):
        if start:
            await asyncio.sleep(0)
        rows = samples[start : start + _ROWS_PER_STEP]
        if len(rows) == 1:
            answers.append(predict_one(services, context, model, rows[0], route))
            continue
        classified = _classify_rows(model, rows, context, route)
        step = [answer for answer, _ in classified]
        entries = [entry for _, entry in classified]
        log_entries(services, entries)
        count_answers(services, model, step, entries)
        answers += step
    return answers


def _classify_rows(
    model: LoadedModel, rows: Sequence[Sample], context: RequestContext, route: str
) -> list[tuple[Prediction, LogEntry]]:
    packed = [model.pack_values(*row.values) for row in rows]
    values = np.frombuffer(b"".join(packed)).reshape(len(rows), -1)
    positive = model.predictor.positive(values).tolist()
    contained = model.training_range.contain_each(values)
    classified = list(zip(rows, positive, packed, contained, strict=True))
    return _classify(model, classified, context, route)


def _classify(
    model: LoadedModel,
    rows: Collection[tuple[Sample, float, bytes, bool]],
    context: RequestContext,
    route: str,
) -> list[tuple[Prediction, LogEntry]]:
    """The answers that follow from probabilities, and their entries in the prediction log.

    Parameters
    ----------
    rows : collection of (Sample, float, bytes, bool)
        Each with its probability, its values as `LoadedModel.pack_values` packs them, and whether
        all lie within the training range.
    """
    rule, version, digest = model.decision_rule, model.version, model.manifest_sha256
    positive, negative = rule.labels.positive, rule.labels.negative
    caller = context.caller.name if context.caller else ""
    now, seconds = time.time(), context.seconds
    classified = []
    for identifier, (sample, probability, packed, in_range) in zip(
        new_ids(len(rows)), rows, strict=True
    ):
        label = rule.label(probability)
        is_positive = label is positive
        answer = Prediction(
            identifier,
            label.code,
            label.name,
            probability if is_positive else 1.0 - probability,
            {positive.name: probability, negative.name: 1.0 - probability},
            rule.threshold,
            version,
            digest,
            () if in_range else _warnings(model, sample),
            msgspec.UNSET if sample.id is None else sample.id,
        )
        entry = LogEntry(
            identifier,
            now,
            version,
            digest,
            probability,
            is_positive,
            seconds,
            caller,
            route,
            packed,
            sample.id,
        )
        classified.append((answer, entry))
    return classified


def _warnings(model: LoadedModel, sample: Sample) -> list[Notice]:
    names = model.outside_training_range(sample.values)
    return [Notice(name, OUTSIDE_TRAINING_RANGE) for name in names]


def log_entries(services: Services, entries: Sequence[LogEntry]) -> None:
    """Write entries to the prediction log, all or none.

    Raises
    ------
    RecordsAway
    """
    if services.spool is not None:
        services.spool.append(entries)


def count_answers(
    services: Services,
    model: LoadedModel,
    answers: Sequence[Prediction],
    entries: Sequence[LogEntry],
) -> None:
    """Count answers whose entries are written, for the metrics."""
    positive = len([entry for entry in entries if entry.positive])
    services.metrics.count_predictions(model.version, positive, len(entries))
    for answer in answers:
        if answer.warnings:
            services.metrics.count_warnings(notice.feature for notice in answer.warnings)
