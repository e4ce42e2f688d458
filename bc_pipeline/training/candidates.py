"""Cross-validation of a candidate on train rows."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import structlog

from bc_pipeline.artifacts.evidence import labelled_rows_digest
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.split import SplitSide
from bc_pipeline.errors import EvidenceMismatch, NotStored
from bc_pipeline.problems.base import Candidate, Problem
from bc_pipeline.problems.policies import SelectionPolicy
from bc_pipeline.training.fit import fit, positive_probability
from bc_pipeline.training.folds import assign_folds, require_nested_rows
from bc_pipeline.training.out_of_fold_rows import OutOfFoldRows
from bc_pipeline.training.results import CandidateResult, load_result, store_result
from bc_pipeline.training.threshold import sensitivity_threshold


def cross_validate(
    problem: Problem,
    candidate: Candidate,
    train: SplitSide,
    *,
    store: Store,
    dataset: str,
    threads: int = 1,
) -> CandidateResult:
    """Cross-validate a candidate on train rows, or return the stored result of the same.

    Parameters
    ----------
    problem : Problem
        Its selection policy has the numbers of folds and repeats.
    candidate : Candidate
        One of the problem's, or the champion's recipe as its manifest gives it.
    train : SplitSide
    dataset : str
        Digest of the dataset whose train side this is.
    threads : int
        Maximum of OpenMP and BLAS threads.

    Raises
    ------
    DataError
        Where a class has too few rows for folds within folds.
    DegenerateModel
        Where a fit gave constant or non-finite probabilities.
    ArtifactCorrupt
        Where the stored result is damaged.
    EvidenceMismatch
        Where the stored result is of other rows.
    """
    started = time.perf_counter()
    try:
        result = load_result(store, problem, dataset, candidate)
        is_repeat = True
    except NotStored:
        require_nested_rows(train.positive, problem.selection.folds)
        rows = OutOfFoldRows(
            keys=train.keys,
            positive=train.positive,
            probability=out_of_fold(problem.selection, candidate, train, threads),
            nested_threshold=nested_threshold(problem.selection, candidate, train, threads),
        )
        result = store_result(store, problem, dataset, candidate, rows)
        is_repeat = False
    if result.document.rows_digest != labelled_rows_digest(train.keys, train.positive):
        raise EvidenceMismatch(
            f"The stored cross-validation of {candidate.title} on dataset {dataset[:12]} is of "
            "other rows.",
            "Delete the candidate's folder; the next run computes it again.",
            challenger=candidate.name,
        )
    structlog.get_logger().info(
        "candidate_cross_validated",
        problem=problem.name,
        dataset=dataset,
        candidate=candidate.name,
        recipe=candidate.recipe,
        rows=len(train),
        brier=result.document.metrics["brier"],
        repeat=is_repeat,
        seconds=round(time.perf_counter() - started, 2),
    )
    return result


def out_of_fold(
    policy: SelectionPolicy, candidate: Candidate, train: SplitSide, threads: int
) -> np.ndarray:
    """Probability of each row in each repeat, from the fit that was not trained on it.

    Returns
    -------
    array of float64, shape (repeats, n)
    """
    from threadpoolctl import threadpool_limits

    values, positive = train.values, train.positive
    probability = np.empty((policy.repeats, len(train)), dtype=np.float64)
    with threadpool_limits(limits=threads):
        for repeat, fold_of in enumerate(assign_folds(train.keys, positive, policy)):
            for fold in range(policy.folds):
                test = fold_of == fold
                estimator = fit(candidate, policy.seed, values[~test], positive[~test], threads)
                probability[repeat, test] = positive_probability(candidate, estimator, values[test])
    return probability


def nested_threshold(
    policy: SelectionPolicy, candidate: Candidate, train: SplitSide, threads: int
) -> np.ndarray:
    """Threshold for the rows of each fold of the first repeat, set within the other folds.

    A call at this threshold tells how the rule does on rows that had no part in it, as those
    of the future.

    Returns
    -------
    array of float64, shape (n,)
    """
    inner = replace(policy, repeats=1)
    (fold_of,) = assign_folds(train.keys, train.positive, inner)
    threshold = np.empty(len(train), dtype=np.float64)
    for fold in range(policy.folds):
        others = train.take(np.flatnonzero(fold_of != fold))
        (probability,) = out_of_fold(inner, candidate, others, threads)
        threshold[fold_of == fold] = sensitivity_threshold(
            candidate.title, others.positive, probability, policy.sensitivity_target
        )
    return threshold
