"""kill -9 at random moments: what was answered is in the database afterwards."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.crashes import kill_rounds

ROUNDS = 60


def test_no_answered_prediction_is_lost(tmp_path: Path) -> None:
    found = kill_rounds(tmp_path / "home", ROUNDS, seed=3)
    assert found.answered > 20 * ROUNDS
    assert found.drainers > 3
    assert found.lost == 0
