"""Choosing the candidate and the decision threshold, on train rows alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bc_pipeline.artifacts.evidence import Record
from bc_pipeline.errors import DegenerateModel, EvidenceMismatch
from bc_pipeline.problems.base import Problem
from bc_pipeline.statistics import corrected_resampled_t
from bc_pipeline.training.results import CandidateRecord, CandidateResult


class CandidateLine(Record, frozen=True, kw_only=True):
    """One candidate in the table of a selection.

    Attributes
    ----------
    excess : float
        Mean Brier loss above that of the best candidate.
    p_value : float
        Two-sided, of the corrected resampled t-test against the best candidate; 1 for
        the best itself.
    within_noise : bool
        Whether the test does not tell it from the best.
    """

    candidate: str
    title: str
    recipe: str
    complexity: int
    brier: float
    roc_auc: float
    excess: float
    p_value: float
    within_noise: bool
    chosen: bool


class Selection(Record, frozen=True, kw_only=True):
    """Which candidate was chosen, its threshold, and why.

    Attributes
    ----------
    threshold : float
        A call is positive where the probability is above it.
    sensitivity, specificity : float
        Of the pooled out-of-fold calls at the threshold.
    why : str
        One sentence for people.
    table : tuple of CandidateLine
        Best Brier loss first.
    """

    candidate: str
    title: str
    recipe: str
    threshold: float
    sensitivity: float
    specificity: float
    why: str
    table: tuple[CandidateLine, ...]


def select(problem: Problem, results: Sequence[CandidateResult]) -> Selection:
    """Choose the simplest candidate within noise of the best, and set its threshold.

    The best candidate has the lowest mean Brier loss over all folds. Another one is within
    noise of it unless the corrected resampled t-test over the paired per-fold losses tells
    the two apart, two-sided, at the policy's `noise_alpha`: the best was picked by looking,
    so that it comes out ahead is no evidence yet. Of those within noise the one of lowest
    complexity is chosen; an equal complexity goes to the lower loss, then to the name.

    Parameters
    ----------
    problem : Problem
    results : sequence of CandidateResult
        One or more, in any order.

    Raises
    ------
    EvidenceMismatch
        Where the results are not about the same rows, folds and code.
    DegenerateModel
        Where no threshold reaches the policy's sensitivity.
    """
    _check_comparable([result.record for result in results])
    policy = problem.selection
    complexity = {
        result.record.candidate: problem.candidate(result.record.candidate).complexity
        for result in results
    }
    ranked = sorted(
        results,
        key=lambda result: (
            result.record.metrics["brier"],
            complexity[result.record.candidate],
            result.record.candidate,
        ),
    )
    best = ranked[0]
    tests = [
        corrected_resampled_t(result.losses - best.losses, 1 / policy.folds) for result in ranked
    ]
    within_noise = [
        result is best or not test.two_sided < policy.noise_alpha
        for result, test in zip(ranked, tests, strict=True)
    ]
    # `ranked` is in order of loss and then name, so the first of equal complexity wins.
    chosen = min(
        (result for result, near in zip(ranked, within_noise, strict=True) if near),
        key=lambda result: complexity[result.record.candidate],
    )
    threshold = sensitivity_threshold(chosen, policy.sensitivity_target)
    calls = chosen.pooled > threshold
    table = tuple(
        CandidateLine(
            candidate=result.record.candidate,
            title=result.record.title,
            recipe=result.record.recipe,
            complexity=complexity[result.record.candidate],
            brier=result.record.metrics["brier"],
            roc_auc=result.record.metrics["roc_auc"],
            excess=test.mean,
            p_value=test.two_sided,
            within_noise=near,
            chosen=result is chosen,
        )
        for result, test, near in zip(ranked, tests, within_noise, strict=True)
    )
    return Selection(
        candidate=chosen.record.candidate,
        title=chosen.record.title,
        recipe=chosen.record.recipe,
        threshold=threshold,
        sensitivity=float(calls[chosen.positive == 1].mean()),
        specificity=float(1.0 - calls[chosen.positive == 0].mean()),
        why=_why(table),
        table=table,
    )


def sensitivity_threshold(result: CandidateResult, target: float) -> float:
    """The highest threshold whose pooled out-of-fold calls reach a sensitivity.

    Each row counts once, with the mean of its out-of-fold probabilities over the repeats,
    and is called positive where that mean is above the threshold. As many positive rows as
    the target asks for must be called, so the threshold has to lie below the probability
    of the last of them; rows tied with it are called with it. Anything down to the next
    lower probability of any row gives the same calls, and the middle of that gap is taken,
    so that no row lies on the threshold.

    Parameters
    ----------
    result : CandidateResult
    target : float
        Above 0, at most 1.

    Raises
    ------
    DegenerateModel
        Where so many positive rows have probability 0 that no threshold reaches it.
    """
    pooled = result.pooled
    of_positive = np.sort(pooled[result.positive == 1])[::-1]
    # A target of .55 of 100 rows is 55 of them, although .55 * 100 is a little above 55.
    needed = max(1, math.ceil(target * of_positive.size - 1e-9))
    last = float(of_positive[needed - 1])
    if last <= 0.0:
        raise DegenerateModel(
            f"No threshold gives {result.record.title} an out-of-fold sensitivity of {target:g}.",
            candidate=result.record.candidate,
        )
    below = pooled[pooled < last]
    floor = float(below.max()) if below.size else 0.0
    middle = (floor + last) / 2.0
    # Between neighbouring floats there is no middle; the lower one is not above itself.
    return middle if middle < last else floor


def _check_comparable(records: Sequence[CandidateRecord]) -> None:
    if not records:
        raise EvidenceMismatch("There is no candidate to choose from.")

    def basis(record: CandidateRecord) -> dict[str, object]:
        return {
            "problem": record.problem,
            "dataset": record.dataset,
            "rows": record.rows_digest,
            "seed": record.seed,
            "folds": record.folds,
            "repeats": record.repeats,
            "code": record.code_version,
        }

    first, expected = records[0], basis(records[0])
    for record in records[1:]:
        differing = [name for name, value in basis(record).items() if value != expected[name]]
        if differing:
            raise EvidenceMismatch(
                f"{first.title} and {record.title} cannot be compared: "
                f"they differ in {', '.join(differing)}.",
                "Train all candidates on the same dataset with the same code.",
                champion=first.candidate,
                challenger=record.candidate,
            )


def _why(table: Sequence[CandidateLine]) -> str:
    """The choice in one sentence."""
    best = table[0]
    chosen = next(line for line in table if line.chosen)
    score = f"{chosen.title} has a cross-validated Brier loss of {chosen.brier:.4f}"
    if chosen is not best:
        return (
            f"{score}, within noise of the best ({best.title}, {best.brier:.4f}, "
            f"p = {chosen.p_value:.2g}), and no simpler candidate is."
        )
    if len(table) == 1:
        return f"{score} and is the only candidate."
    simpler = any(line.complexity < best.complexity for line in table)
    return f"{score}, the best" + (
        ", and no simpler candidate is within noise of it." if simpler else ", and is the simplest."
    )
