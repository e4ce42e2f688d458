"""The collector of defects that files and requests share."""

from __future__ import annotations

import numpy as np

from bc_pipeline.errors import Defect
from bc_pipeline.schema import Feature, FeatureSchema
from bc_pipeline.tables.checks import RowDefects

SCHEMA = FeatureSchema((Feature("a", "1", 0, 1), Feature("b", "1", 0, 1)))


def test_defects_beyond_the_limit_are_only_counted() -> None:
    defects = RowDefects(limit=2)
    defects.add([3, 1], "a", "is empty")
    assert defects.is_full
    defects.add([0], "a", "is empty")
    assert defects.count == 3
    assert list(defects.by_row()) == [1, 3]


def test_a_column_with_a_defect_gets_no_second_one() -> None:
    defects = RowDefects()
    defects.add([11], "a", "is empty")
    defects.check_values(SCHEMA, np.array([[0.5, 0.5], [np.nan, 2.0]]), first_row=10)
    assert defects.by_row() == {
        11: [
            Defect("is empty", column="a"),
            Defect("is outside the physical range 0 to 1", column="b"),
        ]
    }


def test_a_row_that_was_not_split_has_no_other_defect() -> None:
    defects = RowDefects()
    defects.add_unreadable(0, "is blank")
    defects.check_values(SCHEMA, np.full((2, 2), np.nan))
    assert defects.by_row()[0] == [Defect("is blank")]
    assert len(defects.by_row()[1]) == 2
