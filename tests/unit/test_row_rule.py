from __future__ import annotations

import numpy as np
import pytest

from bc_pipeline.row_rule import RowRule


@pytest.mark.parametrize(
    ("rule", "left", "right", "broken"),
    [
        (RowRule("r", "at_least", "a", "b"), [1, 2, 3], [2, 2, 2], [True, False, False]),
        (RowRule("r", "zero_together", "a", "b"), [0, 0, 1], [0, 1, 0], [False, True, True]),
        (
            RowRule("r", "ratio", "a", "b", scale=2, power=2, low=0.5, high=2),
            [2, 20, 0, 1],
            [1, 1, 1, 0],
            [False, True, True, False],
        ),
    ],
)
def test_rules(rule: RowRule, left: list[float], right: list[float], broken: list[bool]) -> None:
    found = rule.broken(np.array(left, dtype=float), np.array(right, dtype=float))
    assert found.tolist() == broken
