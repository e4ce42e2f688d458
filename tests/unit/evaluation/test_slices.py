from __future__ import annotations

from dataclasses import replace

import numpy as np

from bc_pipeline.data.split import SplitSide
from bc_pipeline.evaluation.slices import find_parts, find_subgroups, resolve_slices
from bc_pipeline.problems.base import Problem, Slice


def side(values: np.ndarray, **metadata: list[str]) -> SplitSide:
    return SplitSide(
        tuple(f"row{i}" for i in range(len(values))),
        values,
        np.zeros(len(values), dtype=np.int8),
        {name: tuple(cells) for name, cells in metadata.items()},
    )


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
    low, high, middle = resolve_slices(problem, side(train))
    others = np.zeros((4, train.shape[1]))
    others[:, 0] = [-7.0, 50.0, 49.999, 900.0]
    assert low.contains(side(others)).tolist() == [True, False, True, False]
    assert high.contains(side(others)).tolist() == [False, True, False, True]
    assert (middle.low, middle.high) == (25.0, 75.0)


def test_the_halves_of_a_feature_cover_every_row_once(
    wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    values, _ = reference
    bounds = {part.name: part for part in resolve_slices(wdbc, side(values[::2]))}
    small = bounds["small nuclei"].contains(side(values))
    large = bounds["large nuclei"].contains(side(values))
    assert (small ^ large).all()
    column = wdbc.schema.names.index("mean_radius")
    assert values[small, column].max() < values[large, column].min()


def test_a_subgroup_is_the_rows_with_one_frequent_value_of_metadata(wdbc: Problem) -> None:
    values = np.zeros((31, len(wdbc.schema.names)))
    train = side(values, site=["south"] * 10 + ["north"] * 10 + ["east"] + [""] * 10)

    names = [part.name for part in find_subgroups(train)]

    # "east" is one sample, whose name would tell whose result it is.
    assert names == ["site: not given", "site: north", "site: south"]
    missing, north, _ = find_subgroups(train)
    holdout = side(values[:3], site=["north", "", "elsewhere"])
    assert north.contains(holdout).tolist() == [True, False, False]
    assert missing.contains(holdout).tolist() == [False, True, False]
    assert missing.contains(side(values[:2])).tolist() == [True, True]
    assert [part.name for part in find_parts(wdbc, train)][-3:] == names


def test_samples_without_metadata_have_no_subgroups(wdbc: Problem) -> None:
    assert find_subgroups(side(np.zeros((40, len(wdbc.schema.names))))) == ()


def test_no_column_has_more_than_twenty_subgroups(wdbc: Problem) -> None:
    cells = [f"s{number:02}" for number in range(30) for _ in range(10 + number)]
    values = np.zeros((len(cells), 1))
    subgroups = find_subgroups(side(values, site=cells))
    assert [part.value for part in subgroups] == [f"s{number}" for number in range(10, 30)]
