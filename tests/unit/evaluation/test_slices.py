from __future__ import annotations

from dataclasses import replace

import numpy as np

from bc_pipeline.evaluation.slices import resolve_slices
from bc_pipeline.problems.base import Problem, Slice


def test_bounds_come_from_train_rows_and_fit_any_row(wdbc: Problem) -> None:
    problem = replace(
        wdbc,
        slices=(
            Slice("low", "mean_radius", 0.0, 0.5),
            Slice("high", "mean_radius", 0.5, 1.0),
            Slice("middle", "mean_radius", 0.25, 0.75),
        ),
    )
    train = np.zeros((101, len(wdbc.schema.names)))
    train[:, 0] = np.arange(101)
    low, high, middle = resolve_slices(problem, train)
    others = np.zeros((4, train.shape[1]))
    others[:, 0] = [-7.0, 50.0, 49.999, 900.0]
    assert low.contains(others).tolist() == [True, False, True, False]
    assert high.contains(others).tolist() == [False, True, False, True]
    assert (middle.low, middle.high) == (25.0, 75.0)


def test_the_halves_of_a_feature_cover_every_row_once(
    wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    values, _ = reference
    bounds = {part.name: part for part in resolve_slices(wdbc, values[::2])}
    small, large = bounds["small nuclei"].contains(values), bounds["large nuclei"].contains(values)
    assert (small ^ large).all()
    column = wdbc.schema.names.index("mean_radius")
    assert values[small, column].max() < values[large, column].min()
