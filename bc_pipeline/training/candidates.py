"""Cross-validating a candidate on train rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import structlog

from bc_pipeline.artifacts.evidence import labelled_rows_digest
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import EvidenceMismatch, NotStored
from bc_pipeline.problems.base import Candidate, Problem
from bc_pipeline.training.fit import fit, positive_probability
from bc_pipeline.training.folds import assign_folds
from bc_pipeline.training.results import CandidateResult, load_result, store_result

__all__ = ["CandidateResult", "cross_validate", "load_result"]


def cross_validate(
    problem: Problem,
    candidate: Candidate,
    keys: Sequence[str],
    values: np.ndarray,
    positive: np.ndarray,
    *,
    store: Store,
    dataset: str,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CandidateResult:
    """Cross-validate a candidate on train rows, or return the stored result of the same.

    Parameters
    ----------
    problem : Problem
        Its selection policy says in how many folds and how often.
    candidate : Candidate
        One of the problem's, or the champion's recipe as its manifest gives it.
    keys : sequence of str, length n
    values : array of float64, shape (n, n_features)
    positive : array of int, shape (n,)
    dataset : str
        Digest of the dataset that the rows are the train side of.
    threads : int
        Most OpenMP and BLAS threads of a fit.
    progress : callable, optional
        Told the fits done and the fits there are, after each fit.

    Raises
    ------
    DataError
        Where a class has fewer rows than there are folds.
    DegenerateModel
        Where a fit gave constant or non-finite probabilities.
    ArtifactCorrupt
        Where the stored result is damaged.
    EvidenceMismatch
        Where the stored result is about other rows.
    """
    started = time.perf_counter()
    order = sorted(range(len(keys)), key=keys.__getitem__)
    keys = tuple(keys[row] for row in order)
    values, positive = values[order], np.asarray(positive[order], dtype=np.int8)
    try:
        result = load_result(store, problem, dataset, candidate)
        repeat = True
    except NotStored:
        probability = _out_of_fold(problem, candidate, keys, values, positive, threads, progress)
        result = store_result(store, problem, dataset, candidate, keys, positive, probability)
        repeat = False
    if result.record.rows_digest != labelled_rows_digest(keys, positive):
        raise EvidenceMismatch(
            f"The stored cross-validation of {candidate.title} is about other rows than those "
            f"given for dataset {dataset[:12]}.",
            "Delete the candidate's folder; the next run computes it anew.",
            challenger=candidate.name,
        )
    structlog.get_logger().info(
        "candidate_cross_validated",
        problem=problem.name,
        dataset=dataset,
        candidate=candidate.name,
        recipe=candidate.recipe,
        rows=len(keys),
        brier=result.record.metrics["brier"],
        repeat=repeat,
        seconds=round(time.perf_counter() - started, 2),
    )
    return result


def _out_of_fold(
    problem: Problem,
    candidate: Candidate,
    keys: Sequence[str],
    values: np.ndarray,
    positive: np.ndarray,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    from threadpoolctl import threadpool_limits

    policy = problem.selection
    probability = np.empty((policy.repeats, len(keys)), dtype=np.float64)
    with threadpool_limits(limits=threads):
        for repeat, fold_of in enumerate(assign_folds(keys, positive, policy)):
            for fold in range(policy.folds):
                test = fold_of == fold
                estimator = fit(candidate, policy.seed, values[~test], positive[~test], threads)
                probability[repeat, test] = positive_probability(candidate, estimator, values[test])
                if progress is not None:
                    progress(repeat * policy.folds + fold + 1, policy.repeats * policy.folds)
    return probability
