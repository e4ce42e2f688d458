"""Choice of the candidate and of its threshold, on train rows only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bc_pipeline.corrected_t_test import corrected_resampled_t
from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.problems.base import Problem
from bc_pipeline.training.results import CandidateDocument, CandidateResult


@dataclass(frozen=True)
class Selection:
    """The chosen candidate, its threshold, and the reason.

    Attributes
    ----------
    threshold : float
        A call is positive where the probability is above it.
    why : str
        The reason, in one sentence.
    """

    candidate: str
    recipe: str
    threshold: float
    why: str


# Values that two results must share to be compared, and the field of their documents.
_BASIS = {
    "problem": "problem",
    "dataset": "dataset",
    "rows": "rows_digest",
    "seed": "seed",
    "folds": "folds",
    "repeats": "repeats",
    "code": "code_version",
}


def select(problem: Problem, results: Sequence[CandidateResult]) -> Selection:
    """Choose the simplest candidate within noise of the best, and set its threshold.

    The best candidate has the lowest mean Brier loss over all folds. Another one is within
    noise of it unless the corrected resampled t-test over the paired per-fold losses finds a
    difference at the policy's `noise_alpha`. The test is two-sided, because the best was chosen
    by the same losses. Among the candidates within noise the least complex is chosen; ties go
    to the lower loss, then to the name.

    Parameters
    ----------
    problem : Problem
    results : sequence of CandidateResult
        One or more, in any order.

    Raises
    ------
    EvidenceMismatch
        Where the results are not of the same rows, folds and code.
    DegenerateModel
        Where no threshold reaches the policy's sensitivity.
    """
    _check_comparable([result.document for result in results])
    policy = problem.selection

    def complexity(result: CandidateResult) -> int:
        return problem.candidate(result.document.candidate).complexity

    def rank(result: CandidateResult) -> tuple[float, int, str]:
        document = result.document
        return document.metrics["brier"], complexity(result), document.candidate

    ranked = sorted(results, key=rank)
    best = ranked[0]
    p_values = [
        corrected_resampled_t(result.losses - best.losses, 1 / policy.folds).two_sided
        for result in ranked
    ]
    # Against itself the best has p = 1. A p value that is not a number counts as noise.
    within_noise = [
        (result, p_value)
        for result, p_value in zip(ranked, p_values, strict=True)
        if not p_value < policy.noise_alpha
    ]
    # `min` takes the first of equal complexity: that of lower loss.
    chosen, p_value = min(within_noise, key=lambda entry: complexity(entry[0]))
    return Selection(
        candidate=chosen.document.candidate,
        recipe=chosen.document.recipe,
        threshold=chosen.threshold(policy.sensitivity_target),
        why=_why(chosen.document, best.document, p_value, [complexity(each) for each in ranked]),
    )


def _check_comparable(documents: Sequence[CandidateDocument]) -> None:
    if not documents:
        raise EvidenceMismatch("There is no candidate to choose from.")
    first = documents[0]
    for document in documents[1:]:
        differing = [
            name
            for name, field in _BASIS.items()
            if getattr(document, field) != getattr(first, field)
        ]
        if differing:
            raise EvidenceMismatch(
                f"{first.title} and {document.title} cannot be compared: "
                f"they differ in {', '.join(differing)}.",
                "Train all candidates on the same dataset with the same code.",
                champion=first.candidate,
                challenger=document.candidate,
            )


def _why(
    chosen: CandidateDocument,
    best: CandidateDocument,
    p_value: float,
    complexities: Sequence[int],
) -> str:
    """The choice in one sentence; the first of the complexities is that of the best candidate."""
    score = f"{chosen.title} has a mean Brier score of {chosen.metrics['brier']:.4f} over the folds"
    if chosen is not best:
        return (
            f"{score}, within noise of the best ({best.title}, {best.metrics['brier']:.4f}, "
            f"p = {p_value:.2g}), and no simpler candidate is."
        )
    if len(complexities) == 1:
        return f"{score} and is the only candidate."
    if min(complexities) < complexities[0]:
        return f"{score}, the best, and no simpler candidate is within noise of it."
    return f"{score}, the best, and is the simplest."
