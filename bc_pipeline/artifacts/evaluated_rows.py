"""The figures of an evaluation by the rows that they come from, as pages and answers show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from bc_pipeline.artifacts.evidence import CallScore, Evaluation, Interval, Score
from bc_pipeline.artifacts.signed_bundle import EVALUATION, VersionFiles

ROWS_TITLES = {
    "nested": "Nested cross-validation",
    "cross_validation": "Cross-validation",
    "holdout": "Holdout",
}


class EvaluatedRows(msgspec.Struct, frozen=True):
    """Figures of a version's calls on one set of rows.

    Attributes
    ----------
    rows : {"nested", "cross_validation", "holdout"}
        Nested cross-validation: neither model nor threshold of a call saw the row. In the other
        cross-validation the same rows set the threshold.
    count : int
        Number of rows.
    metrics : dict of str to float or None
        About the positive label; null where one could not be computed.
    intervals : dict of str to Interval
        Of the metrics that have one.
    treat_all : float or None
        Net benefit of calling every row positive, at the threshold probability of the metric
        `net_benefit`, which is worth something only above it and above `treat_none` (Vickers and
        Elkin, "Decision curve analysis", Medical Decision Making 26, 2006). None for nested calls,
        whose net benefit is not computed, and in versions of release 0.1.
    treat_none : float
        Net benefit of calling no row positive: 0.
    """

    rows: Literal["nested", "cross_validation", "holdout"]
    count: int
    metrics: dict[str, float | None]
    intervals: dict[str, Interval]
    treat_all: float | None = None
    treat_none: float = 0.0

    @property
    def title(self) -> str:
        return ROWS_TITLES[self.rows]


def read_evaluated_rows(files: VersionFiles) -> tuple[EvaluatedRows, ...]:
    """Those of a version, nested cross-validation first; none where it has no evaluation.

    Raises
    ------
    ArtifactCorrupt
    """
    if EVALUATION not in files.manifest.files:
        return ()
    return evaluated_rows(files.read_document(EVALUATION, Evaluation))


def evaluated_rows(evaluation: Evaluation) -> tuple[EvaluatedRows, ...]:
    """The figures of the challenger, nested cross-validation first where there is one."""
    nested = evaluation.nested
    return (
        *((_figures("nested", nested),) if nested else ()),
        _figures("cross_validation", evaluation.cross_validation),
        _figures("holdout", evaluation.challenger.holdout),
    )


def _figures(
    rows: Literal["nested", "cross_validation", "holdout"], score: Score | CallScore
) -> EvaluatedRows:
    return EvaluatedRows(
        rows,
        sum(msgspec.structs.astuple(score.confusion)),
        score.metrics,
        score.intervals,
        score.treat_all if isinstance(score, Score) else None,
    )


def metric_names(parts: Sequence[EvaluatedRows]) -> list[str]:
    """Names of all metrics, in order of appearance."""
    return list(dict.fromkeys(name for part in parts for name in part.metrics))
