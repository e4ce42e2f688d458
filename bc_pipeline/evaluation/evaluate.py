"""The `Evaluation` of a challenger and the champion on the same rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from bc_pipeline.artifacts.evidence import (
    Comparison,
    Evaluation,
    Parity,
    RecipeIdentity,
    SequentialEvidence,
    Side,
)
from bc_pipeline.artifacts.predictors import Predictor
from bc_pipeline.data.split import SplitSide
from bc_pipeline.evaluation.compare import holdout_comparisons, recipe_comparison
from bc_pipeline.evaluation.scores import score_calls, score_rows
from bc_pipeline.evaluation.slices import Part, find_parts
from bc_pipeline.problems.base import Problem


def evaluate(
    problem: Problem,
    *,
    challenger: Predictor,
    champion: Predictor | None,
    champion_generation: int,
    train: SplitSide,
    holdout: SplitSide,
    oof_probability: np.ndarray,
    nested_call: np.ndarray,
    losses: Mapping[str, np.ndarray],
    parity: Parity,
    recipe_identity: RecipeIdentity | None = None,
    sequential: SequentialEvidence | None = None,
) -> Evaluation:
    """Score the challenger and the champion, if there is one, and compare them.

    Parameters
    ----------
    challenger, champion : Predictor
        Of the exported models, which are also the ones that are served.
    champion_generation : int
        Of the registry when the champion was read.
    train, holdout : SplitSide
        The two sides of the challenger's dataset. Both models are scored on `holdout`.
    oof_probability : array of float64, shape (n_train,)
        Out-of-fold probability of each train row with the challenger's recipe: the mean over
        the repeats, which the threshold was set on.
    nested_call : array of bool, shape (n_train,)
        Call of each train row in nested cross-validation of the challenger's recipe.
    losses : mapping of str to array of float64, shape (repeats, folds)
        Per-fold Brier score by recipe, on identical folds of `train`. Recipes are compared
        where both are in it.
    parity : Parity
        Of the challenger's export.
    recipe_identity : RecipeIdentity, optional
        Of the champion's recipe. Where this code builds another one, `losses` has none of the
        champion's recipe, and nothing is compared with them.
    sequential : SequentialEvidence, optional
        For the challenger's recipe against the champion's.

    Raises
    ------
    EvidenceMismatch
        Where labels, probabilities or folds do not describe the same rows.
    DegenerateModel
        Where a model gives values that are not probabilities.
    """
    started = time.perf_counter()
    parts = find_parts(problem, train)
    new = _score_side(problem, challenger, holdout, parts)
    old = _score_side(problem, champion, holdout, parts) if champion is not None else None
    evaluation = Evaluation(
        problem=problem.name,
        challenger=new,
        champion=old,
        champion_generation=champion_generation,
        cross_validation=score_rows(
            problem, train, oof_probability, challenger.manifest.threshold, parts
        ),
        holdout_comparisons=_compare_holdout(problem, old, new),
        recipe_comparison=(
            _compare_recipes(problem, old, new, losses)
            if recipe_identity is None or recipe_identity.same
            else None
        ),
        parity=parity,
        recipe_identity=recipe_identity,
        nested=score_calls(problem, train, nested_call),
        sequential=sequential,
    )
    _log(evaluation, time.perf_counter() - started)
    return evaluation


def _log(evaluation: Evaluation, seconds: float) -> None:
    import structlog

    champion, holdout = evaluation.champion, evaluation.challenger.holdout
    structlog.get_logger().info(
        "evaluated",
        problem=evaluation.problem,
        challenger=evaluation.challenger.version,
        champion=champion.version if champion is not None else None,
        train_rows=len(evaluation.cross_validation.keys),
        holdout_rows=len(holdout.keys),
        seconds=round(seconds, 2),
    )


def _compare_holdout(problem: Problem, old: Side | None, new: Side) -> tuple[Comparison, ...]:
    if old is None:
        return ()
    return holdout_comparisons(
        problem.gate, old.holdout, new.holdout, problem.decision_threshold_cost
    )


def _score_side(
    problem: Problem, model: Predictor, holdout: SplitSide, parts: Sequence[Part]
) -> Side:
    manifest, probability = model.manifest, model.positive(holdout.values)
    return Side(
        version=manifest.version,
        recipe=manifest.recipe.recipe,
        title=manifest.recipe.title,
        dataset=manifest.lineage.dataset,
        as_of=manifest.lineage.as_of,
        schema_fingerprint=manifest.schema_fingerprint,
        holdout=score_rows(problem, holdout, probability, manifest.threshold, parts),
    )


def _compare_recipes(
    problem: Problem, champion: Side | None, challenger: Side, losses: Mapping[str, np.ndarray]
) -> Comparison | None:
    """Compare the two recipes, if they differ and both were cross-validated."""
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
