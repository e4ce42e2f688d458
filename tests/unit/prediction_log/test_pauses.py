from __future__ import annotations

import pytest

from bc_pipeline.prediction_log import pauses
from bc_pipeline.prediction_log.pauses import in_parts

ROWS = 10


@pytest.mark.parametrize(
    ("count", "sizes", "expected"),
    [
        (0, [], 0),
        (1, [1], 0),
        (ROWS, [ROWS], 0),
        (ROWS + 1, [ROWS, 1], 1),
        (3 * ROWS, [ROWS, ROWS, ROWS], 2),
    ],
)
def test_there_is_a_pause_between_two_parts_only(
    monkeypatch: pytest.MonkeyPatch, count: int, sizes: list[int], expected: int
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(pauses.time, "sleep", slept.append)
    parts = list(in_parts(range(count), ROWS))
    assert [row for part in parts for row in part] == list(range(count))
    assert [len(part) for part in parts] == sizes
    assert slept == [pauses.SECONDS] * expected
