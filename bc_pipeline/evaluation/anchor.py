"""Comparison of a challenger with the anchor.

On the holdout both models answer the same rows. In cross-validation the rows are those that both
were trained on: each recipe's out-of-fold probabilities, of the challenger's evaluation and of the
one that the anchor was promoted with. So the anchor's recipe need not be fitted again, which the
code may not even be able to.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bc_pipeline.artifacts.evidence import AnchorComparison, Comparison, Evaluation, Score
from bc_pipeline.artifacts.predictors import Predictor
from bc_pipeline.data.split import SplitSide
from bc_pipeline.evaluation.compare import holdout_comparisons
from bc_pipeline.evaluation.scores import score_rows
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import Rows


def compare_with_anchor(
    problem: Problem,
    anchor: Predictor,
    anchor_evaluation: Evaluation,
    challenger: Evaluation,
    train: SplitSide,
    holdout: SplitSide,
) -> AnchorComparison:
    """Compare by every metric that has a bound in the policy's `anchor_margins`.

    Parameters
    ----------
    anchor_evaluation : Evaluation
        The anchor's own, of the time when it was a challenger.
    challenger : Evaluation
    train, holdout : SplitSide
        Of the challenger's dataset.
    """
    old, new = anchor_evaluation.cross_validation, challenger.cross_validation
    theirs = set(old.keys)
    shared = tuple(key for key in train.keys if key in theirs)
    sides = [_on_shared_rows(problem, score, train, shared) for score in (old, new)]
    answers = score_rows(
        problem, holdout, anchor.positive(holdout.values), anchor.manifest.threshold, ()
    )
    return AnchorComparison(
        version=anchor.manifest.version,
        shared_rows=len(shared),
        holdout=_compare(problem, "holdout", answers, challenger.challenger.holdout),
        cross_validation=_compare(problem, "cross_validation", *sides) if shared else (),
    )


def _compare(
    problem: Problem, rows: Rows, anchor: Score, challenger: Score
) -> tuple[Comparison, ...]:
    margins = tuple(each for each in problem.gate.anchor_margins if each.rows == rows)
    policy = replace(problem.gate, margins=margins)
    return holdout_comparisons(policy, anchor, challenger, problem.decision_threshold_cost)


def _on_shared_rows(
    problem: Problem, score: Score, train: SplitSide, shared: tuple[str, ...]
) -> Score:
    """A score of out-of-fold probabilities on some of its rows, with the labels of now."""
    number = {key: index for index, key in enumerate(train.keys)}
    rows = [number[key] for key in shared]
    probability = dict(zip(score.keys, score.probability, strict=True))
    side = SplitSide(shared, train.values[rows], train.positive[rows])
    values = np.array([probability[key] for key in shared], dtype=np.float64)
    return score_rows(problem, side, values, score.threshold, ())
