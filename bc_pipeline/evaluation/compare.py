"""Comparison of champion and challenger, on the same holdout rows and between recipes."""

from __future__ import annotations

import numpy as np

from bc_pipeline.artifacts.evidence import Comparison, Interval, Score
from bc_pipeline.corrected_t_test import corrected_resampled_t
from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.evaluation.bootstrap import percentile_interval, row_weights
from bc_pipeline.evaluation.metrics import compute_metrics, finite_or_none
from bc_pipeline.problems.policies import GatePolicy, Margin


def holdout_comparisons(
    policy: GatePolicy, champion: Score, challenger: Score, decision_threshold_cost: float
) -> tuple[Comparison, ...]:
    """Paired bootstrap of every metric that has a margin in the policy.

    Each resample scores both models on the same drawn rows, so that the variation of the rows
    cancels out of the difference.

    Parameters
    ----------
    decision_threshold_cost : float
        Threshold probability that weighs net benefit.

    Returns
    -------
    tuple of Comparison
        In the order of ``policy.margins``. Gain, interval and p value are None where a
        metric is undefined; the p value is the share of resamples without a gain.

    Raises
    ------
    EvidenceMismatch
        Where the two were not scored on the same rows.
    """
    if champion.rows_digest != challenger.rows_digest:
        raise EvidenceMismatch(
            "Champion and challenger were not scored on the same rows.",
            "Evaluate both on the holdout of one dataset.",
            champion=champion.rows_digest,
            challenger=challenger.rows_digest,
        )
    rows = len(challenger.keys)
    if rows == 0:
        return tuple(_undefined(margin, champion, challenger) for margin in policy.margins)
    weights = row_weights(rows, policy.bootstrap_rounds, policy.bootstrap_seed)
    resampled = [
        compute_metrics(
            weights,
            np.array(side.positive),
            np.array(side.probability),
            side.threshold,
            decision_threshold_cost,
        )
        for side in (champion, challenger)
    ]
    comparisons = []
    for margin in policy.margins:
        old, new = (side.metrics[margin.metric] for side in (champion, challenger))
        if old is None or new is None:
            comparisons.append(_undefined(margin, champion, challenger))
            continue
        sign = 1.0 if margin.better == "higher" else -1.0
        gains = sign * (resampled[1][margin.metric] - resampled[0][margin.metric])
        defined = gains[~np.isnan(gains)]
        comparisons.append(
            Comparison(
                metric=margin.metric,
                method="paired_bootstrap",
                champion=old,
                challenger=new,
                gain=sign * (new - old),
                interval=percentile_interval(gains, policy.level),
                # The sample itself counts as one resample, so that p is never 0.
                p_value=float((1 + (defined <= 0.0).sum()) / (1 + defined.size)),
            )
        )
    return tuple(comparisons)


def recipe_comparison(
    champion_losses: np.ndarray, challenger_losses: np.ndarray, folds: int, level: float = 0.95
) -> Comparison:
    """Paired repeated cross-validation of two recipes on identical folds.

    Parameters
    ----------
    champion_losses, challenger_losses : array of float, shape (repeats, folds)
        Brier score of each test fold; lower is better.
    folds : int
    level : float
        Coverage of the interval of the gain.

    Raises
    ------
    EvidenceMismatch
        Where the two do not have the same repeats and folds.
    """
    champion_losses = np.asarray(champion_losses, dtype=np.float64)
    challenger_losses = np.asarray(challenger_losses, dtype=np.float64)
    if champion_losses.shape != challenger_losses.shape or champion_losses.shape[1:] != (folds,):
        raise EvidenceMismatch(
            "The recipes were not cross-validated on the same repeats and folds.",
            champion=str(champion_losses.shape),
            challenger=str(challenger_losses.shape),
        )
    test = corrected_resampled_t(champion_losses - challenger_losses, 1.0 / folds, level)
    return Comparison(
        metric="brier",
        method="corrected_resampled_t",
        champion=finite_or_none(champion_losses.mean()),
        challenger=finite_or_none(challenger_losses.mean()),
        gain=finite_or_none(test.mean),
        interval=Interval(finite_or_none(test.low), finite_or_none(test.high), level),
        p_value=finite_or_none(test.p_value),
        standard_error=finite_or_none(test.error),
    )


def _undefined(margin: Margin, champion: Score, challenger: Score) -> Comparison:
    return Comparison(
        metric=margin.metric,
        method="paired_bootstrap",
        champion=champion.metrics[margin.metric],
        challenger=challenger.metrics[margin.metric],
        gain=None,
    )
