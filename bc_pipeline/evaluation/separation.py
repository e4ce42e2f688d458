"""How well single features separate the classes, in a dataset and batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bc_pipeline.artifacts.evidence import Separation, Separations
from bc_pipeline.data.class_separation import class_areas
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import LeakPolicy

# Rows of each class that are needed: good features separate fewer by chance.
_FEWEST_ROWS = 5


def measure_separations(
    problem: Problem,
    policy: LeakPolicy,
    values: np.ndarray,
    positive: np.ndarray,
    batches: Sequence[str],
    batch_numbers: np.ndarray,
) -> Separations:
    """Areas of single features in the problem's reference, in all rows and in each batch.

    A leak in one batch disappears among all rows, so each is measured by itself; consecutive ones
    that have fewer rows than the policy's minimum, together.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)
        Of all rows of the dataset, whether in train or in the holdout.
    positive : array of bool, shape (n,)
    batches : sequence of str
        In the order in which they were made.
    batch_numbers : array of int, shape (n,)
        Position in `batches` of the batch that each row came with.
    """
    reference = problem.load_reference()
    known = _separation(
        reference.values, problem.labels.to_positive(reference.codes).astype(bool), ()
    )
    groups = list(_grouped(np.bincount(batch_numbers, minlength=len(batches)), policy.minimum_rows))
    rows: list[tuple[np.ndarray, tuple[str, ...]]] = [(np.ones(len(values), dtype=bool), ())]
    if len(groups) > 1:
        rows += [
            (np.isin(batch_numbers, group), tuple(batches[number] for number in group))
            for group in groups
        ]
    parts = [
        _separation(values[chosen], positive[chosen], names)
        for chosen, names in rows
        if min(positive[chosen].sum(), (~positive[chosen]).sum()) >= _FEWEST_ROWS
    ]
    return Separations(features=problem.schema.names, reference=known, parts=tuple(parts))


def _grouped(sizes: np.ndarray, minimum: int) -> Iterator[list[int]]:
    """Batches with enough rows alone, the others together; without a last group of too few."""
    small: list[int] = []
    for number, size in enumerate(sizes.tolist()):
        if size >= minimum:
            yield [number]
        elif size:
            small.append(number)
            if sizes[small].sum() >= minimum:
                yield small
                small = []


def _separation(values: np.ndarray, positive: np.ndarray, batches: tuple[str, ...]) -> Separation:
    return Separation(
        rows=len(positive),
        positive_rows=int(positive.sum()),
        areas=tuple(class_areas(values, positive).tolist()),
        batches=batches,
    )
