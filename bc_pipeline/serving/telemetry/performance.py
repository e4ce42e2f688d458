"""How well the model does: what was promised at its release, and what turned out true."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from bc_pipeline import clock
from bc_pipeline.records.status import OutcomeCounts, Status
from bc_pipeline.serving.model.live import Live

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
    """Calls of one version against what turned out true; malignant is positive."""

    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int
    recall: Share
    specificity: Share
    precision: Share


class ModelFacts(msgspec.Struct, frozen=True):
    """The model that answers.

    Attributes
    ----------
    as_of : str
        Rows that had arrived by then were used.
    metrics : dict of str to float or None
        On the holdout, when it was released.
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


class Performance(msgspec.Struct, frozen=True):
    """The answer of ``GET /metrics`` to a client that accepts JSON.

    Attributes
    ----------
    outcomes : dict of str to Outcomes
        By version, whatever version is live.
    outcomes_at : str or None
        When they were counted; None where no drainer has reported.
    answered : dict of str to dict of str to int
        Predictions by version and call, since the service was started.
    """

    model: ModelFacts | None
    outcomes: dict[str, Outcomes]
    outcomes_at: str | None
    answered: dict[str, dict[str, int]]


def performance(
    live: Live | None, status: Status | None, answered: Mapping[str, dict[str, int]]
) -> Performance:
    return Performance(
        model=_model(live) if live else None,
        outcomes={
            version: outcomes(counts)
            for version, counts in (status.outcomes if status else {}).items()
        },
        outcomes_at=clock.format_time(datetime.fromtimestamp(status.written_at, UTC))
        if status
        else None,
        answered=dict(answered),
    )


def outcomes(counts: OutcomeCounts) -> Outcomes:
    """Rates of one version, with how sure they are."""
    return Outcomes(
        counts.tp,
        counts.fn,
        counts.fp,
        counts.tn,
        recall=share(counts.tp, counts.tp + counts.fn),
        specificity=share(counts.tn, counts.tn + counts.fp),
        precision=share(counts.tp, counts.tp + counts.fp),
    )


def share(part: int, total: int) -> Share:
    """``part / total`` with its Wilson interval."""
    if not total:
        return Share(None, None, None)
    value, square = part / total, _Z * _Z
    middle = (value + square / (2 * total)) / (1 + square / total)
    spread = value * (1 - value) / total + square / (4 * total * total)
    half = _Z * math.sqrt(spread) / (1 + square / total)
    return Share(value, max(0.0, middle - half), min(1.0, middle + half))


def _model(live: Live) -> ModelFacts:
    manifest = live.manifest
    lineage = manifest.lineage
    return ModelFacts(
        version=live.version,
        manifest_sha256=live.manifest_sha256,
        candidate=manifest.recipe.candidate,
        generation=live.generation,
        threshold=manifest.threshold,
        as_of=lineage.as_of,
        dataset=lineage.dataset,
        train_rows=lineage.train_rows,
        holdout_rows=lineage.holdout_rows,
        metrics={name: _finite(value) for name, value in manifest.metrics.items()},
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
