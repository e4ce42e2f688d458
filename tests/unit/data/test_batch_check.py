"""What the check of a batch by itself finds, and how often it finds something in clean rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bc_pipeline.data.batch_check import CheckedRows, check_batch, count_decimals
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import BatchCheckPolicy

Change = Callable[["Batch"], None]
POLICY = BatchCheckPolicy()


class Batch:
    """Random public rows, and the others as their reference."""

    def __init__(self, problem: Problem, values: np.ndarray, positive: np.ndarray, rows, seed: int):
        self.names = problem.schema.names
        self.rng = np.random.default_rng(seed)
        others = np.setdiff1d(np.arange(len(values)), rows)
        self.reference = CheckedRows(values[others], positive[others])
        self.values, self.positive = values[rows].copy(), positive[rows]

    def column(self, name: str) -> np.ndarray:
        return self.values[:, self.names.index(name)]

    def part(self, share: float) -> np.ndarray:
        return self.rng.permutation(len(self.values))[: round(share * len(self.values))]

    def findings(self) -> dict[str, set[str | None]]:
        found: dict[str, set[str | None]] = {}
        rows = CheckedRows(self.values, self.positive)
        for finding in check_batch(self.names, self.reference, rows, POLICY):
            assert 0 <= finding.p <= POLICY.level
            found.setdefault(finding.test, set()).add(finding.feature)
        return found


@pytest.fixture
def positive(reference: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return reference[1] == 0


@pytest.fixture
def draw(wdbc: Problem, reference, positive) -> Callable[[int, int], Batch]:
    def make(size: int, seed: int) -> Batch:
        rows = np.random.default_rng(seed).permutation(len(positive))[:size]
        return Batch(wdbc, reference[0], positive, rows, seed)

    return make


def lengths(share: float) -> Change:
    def change(batch: Batch) -> None:
        rows = batch.part(share)
        for name in batch.names:
            power = 2 if "area" in name else 1 if "radius" in name or "perimeter" in name else 0
            batch.column(name)[rows] *= 1.5**power

    return change


def times_ten(name: str) -> Change:
    def change(batch: Batch) -> None:
        batch.column(name)[batch.part(0.1)] *= 10

    return change


def rounded(name: str, decimals: int) -> Change:
    def change(batch: Batch) -> None:
        batch.column(name)[:] = np.round(batch.column(name), decimals)

    return change


def imputed(name: str, value: Callable[[np.ndarray], float]) -> Change:
    def change(batch: Batch) -> None:
        batch.column(name)[batch.part(0.1)] = value(batch.column(name))

    return change


def errors_of_other_rows(batch: Batch) -> None:
    errors = [index for index, name in enumerate(batch.names) if name.endswith("_error")]
    batch.values[:, errors] = np.roll(batch.values[:, errors], 1, axis=0)


def swapped(one: str, other: str) -> Change:
    def change(batch: Batch) -> None:
        former = batch.column(one).copy()
        batch.column(one)[:] = batch.column(other)
        batch.column(other)[:] = former

    return change


def leak(share: float) -> Change:
    def change(batch: Batch) -> None:
        rows = batch.part(share)
        noise = batch.rng.normal(0, 0.001, len(rows))
        batch.column("symmetry_error")[rows] = 0.01 + 0.02 * batch.positive[rows] + noise

    return change


CHANGES: dict[str, tuple[Change, str]] = {
    "lengths x 1.5": (lengths(1), "mean_radius"),
    "lengths x 1.5 in a third": (lengths(1 / 3), "mean_radius"),
    "x 10 in a tenth": (times_ten("concavity_error"), "concavity_error"),
    "whole numbers": (rounded("mean_texture", 0), "mean_texture"),
    "tens": (rounded("worst_area", -1), "worst_area"),
    "zero for missing": (imputed("texture_error", lambda _: 0.0), "texture_error"),
    "mean for missing": (imputed("mean_symmetry", np.mean), "mean_symmetry"),
    "errors of other rows": (errors_of_other_rows, "area_error"),
    "columns swapped": (swapped("compactness_error", "concavity_error"), "concavity_error"),
    "subnormal": (imputed("symmetry_error", lambda _: 5e-324), "symmetry_error"),
    "leak": (leak(1), "symmetry_error"),
    "leak in half": (leak(0.5), "symmetry_error"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("size", [57, 120])
def test_a_corrupted_batch_is_found_and_its_feature_named(draw, name: str, size: int) -> None:
    change, feature = CHANGES[name]
    for seed in range(3):
        batch = draw(size, seed)
        change(batch)
        assert feature in set.union(set(), *batch.findings().values())


@pytest.mark.parametrize("share", [0.6, 0.8, 0.1])
def test_another_share_of_positive_labels_is_found(
    wdbc: Problem, reference, positive, share: float
) -> None:
    count = round(57 * share)
    rows = [*np.flatnonzero(positive)[:count], *np.flatnonzero(~positive)[: 57 - count]]
    assert "share of positive labels" in Batch(wdbc, reference[0], positive, rows, 0).findings()


def test_a_feature_that_tells_the_label_is_called_so(draw) -> None:
    batch = draw(57, 5)
    leak(1)(batch)
    assert batch.findings()["tells the label"] == {"symmetry_error"}


def test_clean_batches_have_findings_no_more_often_than_the_level_says(draw) -> None:
    sizes = [25, 31, 57, 200]
    found = [draw(sizes[seed % len(sizes)], seed).findings() for seed in range(100)]
    # At the level of 1 %, more than 4 of 100 have a probability of .004.
    assert sum(map(bool, found)) <= 4


def test_one_class_a_constant_column_and_a_tiny_reference_are_no_errors(
    wdbc: Problem, reference, positive
) -> None:
    benign = np.random.default_rng(0).permutation(np.flatnonzero(~positive))[:57]
    assert set(Batch(wdbc, reference[0], positive, benign, 0).findings()) == {
        "share of positive labels"
    }
    constant = reference[0].copy()
    constant[:, 3] = 7.0
    assert Batch(wdbc, constant, positive, np.arange(0, 569, 10), 0).findings() == {}
    few = CheckedRows(reference[0][:3], positive[:3])
    rows = CheckedRows(reference[0][:30], positive[:30])
    assert check_batch(wdbc.schema.names, few, rows, POLICY) == []


def test_decimal_places_are_counted() -> None:
    values = np.array([[0.0, 120.0, 1300.0], [17.99, 5.0, 0.1 + 0.2]])
    assert count_decimals(values).tolist() == [[-3, -1, -2], [2, 0, 1]]
