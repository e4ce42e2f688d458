"""From rows and predictors to the `Evaluation` that the gate reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bc_pipeline.artifacts.evidence import Comparison, Evaluation, Parity, Score, Side
from bc_pipeline.evaluation.compare import holdout_comparisons, recipe_comparison
from bc_pipeline.evaluation.metrics import score
from bc_pipeline.evaluation.slices import resolve
from bc_pipeline.problems.base import Problem

Predict = Callable[[np.ndarray], np.ndarray]
"""Values, shape (n, n_features), to probabilities of the positive class, shape (n,)."""


class LabelledRows(Protocol):
    """One side of a split.

    Attributes
    ----------
    keys : sequence of str, length n
    values : array of float64, shape (n, n_features)
        In schema order.
    positive : array of int, shape (n,)
        1 where the row is malignant.
    """

    @property
    def keys(self) -> Sequence[str]: ...
    @property
    def values(self) -> np.ndarray: ...
    @property
    def positive(self) -> np.ndarray: ...


@dataclass(frozen=True)
class ModelUnderTest:
    """A model version as evaluation sees it.

    Attributes
    ----------
    version, recipe, title, dataset, as_of, schema_fingerprint : str
        As in the version's manifest.
    threshold : float
        The call is positive where the probability is above it.
    predict : callable
        ``Predictor.positive`` of the exported model: what will serve is what is judged.
    """

    version: str
    recipe: str
    title: str
    dataset: str
    as_of: str
    schema_fingerprint: str
    threshold: float
    predict: Predict


def evaluate(
    problem: Problem,
    *,
    challenger: ModelUnderTest,
    champion: ModelUnderTest | None,
    champion_generation: int,
    train: LabelledRows,
    holdout: LabelledRows,
    oof_probability: np.ndarray,
    losses: Mapping[str, np.ndarray],
    parity: Parity,
) -> Evaluation:
    """Score the challenger, and the champion where there is one, and compare them.

    Parameters
    ----------
    champion_generation : int
        Of the registry when its champion was read.
    train, holdout : LabelledRows
        The two sides of the challenger's dataset. Both models are scored on `holdout`.
    oof_probability : array of float64, shape (n_train,)
        Out-of-fold probability of each train row under the challenger's recipe; where the
        cross-validation was repeated, the mean over repeats that the threshold was set on.
    losses : mapping of str to array of float64, shape (repeats, folds)
        Per-fold Brier score by recipe, on identical folds of `train`. The comparison of
        recipes is made where both sides' recipes are in it.
    parity : Parity
        Of the challenger's export.

    Raises
    ------
    EvidenceMismatch
        Where labels, probabilities or folds do not describe the same rows.
    DegenerateModel
        Where a model answers with something that is no probability.
    """
    import structlog

    started = time.perf_counter()
    policy = problem.gate
    slices = resolve(problem, train.values)

    def scored(rows: LabelledRows, probability: np.ndarray, threshold: float) -> Score:
        return score(
            keys=rows.keys,
            positive=rows.positive,
            probability=probability,
            threshold=threshold,
            values=rows.values,
            slices=slices,
            rounds=policy.bootstrap_rounds,
            seed=policy.bootstrap_seed,
            level=policy.level,
            decision_threshold_cost=problem.decision_threshold_cost,
        )

    def side(model: ModelUnderTest) -> Side:
        return Side(
            version=model.version,
            recipe=model.recipe,
            title=model.title,
            dataset=model.dataset,
            as_of=model.as_of,
            schema_fingerprint=model.schema_fingerprint,
            holdout=scored(holdout, model.predict(holdout.values), model.threshold),
        )

    new = side(challenger)
    old = side(champion) if champion is not None else None
    comparisons: tuple[Comparison, ...] = ()
    if old is not None:
        comparisons = holdout_comparisons(
            policy, old.holdout, new.holdout, problem.decision_threshold_cost
        )
    evaluation = Evaluation(
        problem=problem.name,
        challenger=new,
        champion=old,
        champion_generation=champion_generation,
        cross_validation=scored(train, oof_probability, challenger.threshold),
        holdout_comparisons=comparisons,
        recipe_comparison=_between_recipes(problem, champion, challenger, losses),
        parity=parity,
    )
    structlog.get_logger().info(
        "evaluated",
        problem=problem.name,
        challenger=challenger.version,
        champion=champion.version if champion is not None else None,
        train_rows=len(train.keys),
        holdout_rows=len(holdout.keys),
        seconds=round(time.perf_counter() - started, 2),
    )
    return evaluation


def _between_recipes(
    problem: Problem,
    champion: ModelUnderTest | None,
    challenger: ModelUnderTest,
    losses: Mapping[str, np.ndarray],
) -> Comparison | None:
    """Of the two recipes, where they differ and both were cross-validated."""
    if champion is None or champion.recipe == challenger.recipe:
        return None
    if champion.recipe not in losses or challenger.recipe not in losses:
        return None
    return recipe_comparison(
        losses[champion.recipe],
        losses[challenger.recipe],
        folds=problem.selection.folds,
        level=problem.gate.level,
    )
