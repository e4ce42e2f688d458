"""Performance of the model: its evaluation at the release, and the outcomes since."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from bc_pipeline import clock
from bc_pipeline.prediction_log.status import RECENT_DAYS, OutcomeCounts, RecentOutcomes, Status
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.model.model_info import read_treat_all
from bc_pipeline.settings import Settings

# Two-sided 95 %.
_Z = 1.959963984540054


class Share(msgspec.Struct, frozen=True):
    """A share of outcomes with its Wilson interval at 95 %.

    Attributes
    ----------
    value : float or None
        None where nothing was counted.
    """

    value: float | None
    low: float | None
    high: float | None


class Outcomes(msgspec.Struct, frozen=True):
    """Calls of one version against what turned out true."""

    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int
    recall: Share
    specificity: Share
    precision: Share


class RecentPerformance(msgspec.Struct, frozen=True):
    """Outcomes of one version that were recorded within the last days.

    Attributes
    ----------
    observed, expected : float
        Number of positive outcomes, and the sum of the probabilities that were answered.
    observed_to_expected : float or None
        Their ratio: about 1 for a calibrated model, above 1 where it promises too little
        (calibration in the large: Steyerberg, "Clinical Prediction Models", 2nd ed., 2019,
        chapter 15). None where nothing was expected.
    """

    days: int
    outcomes: Outcomes
    observed: int
    expected: float
    observed_to_expected: float | None


class ModelFacts(msgspec.Struct, frozen=True):
    """The model that answers.

    Attributes
    ----------
    as_of : str
        Rows that had arrived by then were used.
    metrics : dict of str to float or None
        On the holdout, when it was released.
    treat_all : float or None
        Net benefit of calling every holdout row, which that of the model has to exceed.
    """

    version: str
    manifest_sha256: str
    candidate: str
    generation: int
    threshold: float
    as_of: str
    dataset: str
    train_rows: int
    holdout_rows: int
    metrics: dict[str, float | None]
    treat_all: float | None


class Performance(msgspec.Struct, frozen=True):
    """The answer of ``GET /metrics`` to a client that accepts JSON.

    Attributes
    ----------
    outcomes : dict of str to Outcomes
        By version, whatever version is live.
    recent_outcomes : dict of str to RecentPerformance
        By version; only versions with any.
    outcomes_at : str or None
        When they were counted; None where no drainer has reported.
    answered : dict of str to dict of str to int
        Predictions by version and call, since the service was started.
    """

    model: ModelFacts | None
    outcomes: dict[str, Outcomes]
    recent_outcomes: dict[str, RecentPerformance]
    outcomes_at: str | None
    answered: dict[str, dict[str, int]]


def performance(
    settings: Settings,
    model: LoadedModel | None,
    status: Status | None,
    answered: Mapping[str, dict[str, int]],
) -> Performance:
    return Performance(
        model=_model(settings, model) if model else None,
        outcomes={
            version: outcomes(counts)
            for version, counts in (status.outcomes if status else {}).items()
        },
        recent_outcomes={
            version: _recent(counts)
            for version, counts in (status.recent_outcomes if status else {}).items()
        },
        outcomes_at=clock.format_seconds(status.written_at) if status else None,
        answered=dict(answered),
    )


def outcomes(counts: OutcomeCounts) -> Outcomes:
    """Rates of one version with their confidence intervals."""
    return Outcomes(
        counts.tp,
        counts.fn,
        counts.fp,
        counts.tn,
        recall=share(counts.tp, counts.tp + counts.fn),
        specificity=share(counts.tn, counts.tn + counts.fp),
        precision=share(counts.tp, counts.tp + counts.fp),
    )


def _recent(counts: RecentOutcomes) -> RecentPerformance:
    observed = counts.tp + counts.fn
    return RecentPerformance(
        days=RECENT_DAYS,
        outcomes=outcomes(counts),
        observed=observed,
        expected=counts.expected,
        observed_to_expected=observed / counts.expected if counts.expected else None,
    )


def share(part: int, total: int) -> Share:
    """``part / total`` with its Wilson interval."""
    if not total:
        return Share(None, None, None)
    value, square = part / total, _Z * _Z
    center = (value + square / (2 * total)) / (1 + square / total)
    spread = value * (1 - value) / total + square / (4 * total * total)
    half_width = _Z * math.sqrt(spread) / (1 + square / total)
    return Share(value, max(0.0, center - half_width), min(1.0, center + half_width))


def _model(settings: Settings, model: LoadedModel) -> ModelFacts:
    manifest = model.manifest
    lineage = manifest.lineage
    return ModelFacts(
        version=model.version,
        manifest_sha256=model.manifest_sha256,
        candidate=manifest.recipe.candidate,
        generation=model.generation,
        threshold=manifest.threshold,
        as_of=lineage.as_of,
        dataset=lineage.dataset,
        train_rows=lineage.train_rows,
        holdout_rows=lineage.holdout_rows,
        metrics=manifest.metrics,
        treat_all=read_treat_all(settings, model),
    )
