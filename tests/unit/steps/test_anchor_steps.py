"""The anchor in a run, and its commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import claim_store
from bc_pipeline.errors import NoChampion
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import Margin
from bc_pipeline.settings import Settings
from tests.unit.steps.runs import judge, week

pytestmark = pytest.mark.usefixtures("sound_service")

Land = Callable[..., Path]
MARGINS = (
    Margin("brier", 0.03, "lower", negligible=0.01),
    Margin("brier", 0.02, "lower", negligible=0.01, rows="cross_validation"),
)


@pytest.fixture
def bounded(toy: Problem, monkeypatch: pytest.MonkeyPatch) -> Problem:
    """The toy problem, with a bound on the loss since the anchor."""
    problem = replace(toy, gate=replace(toy.gate, anchor_margins=MARGINS))
    monkeypatch.setattr("bc_pipeline.problems.PROBLEMS", (problem,))
    return problem


@pytest.fixture
def volume(settings: Settings) -> Store:
    return Store(settings.home, "toy")


def promoted(number: int) -> str:
    result = judge(week(number))
    steps.promote(Settings(), week(number), result["version"])
    return str(result["version"])


def anchor_checks(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    checks = steps.verdict(Settings(), "toy", result["version"])["checks"]
    return {check["name"]: check for check in checks if check["name"].startswith("anchor")}


def test_every_challenger_meets_the_first_champion_until_another_anchor_is_set(
    bounded: Problem, land: Land
) -> None:
    claim_store(Settings().home)
    with pytest.raises(NoChampion):
        steps.anchor(Settings(), "toy")
    land("base.csv", 1, "2026-02-01")
    first = promoted(1)
    second = promoted(2)
    land("more.csv", 2, "2026-03-02T12:00:00Z")
    third = judge(week(3))
    checks = anchor_checks(third)
    assert set(checks) == {"anchor_holdout_brier", "anchor_cross_validation_brier"}
    assert all(first in check["note"] and check["passed"] for check in checks.values())
    # All train rows of the first champion are among the third's.
    assert "164 train rows" in checks["anchor_cross_validation_brier"]["note"]
    made = steps.set_anchor(Settings(), "toy", second, actor="cli:ada", reason="new clinic")
    assert made["changed"]
    shown = steps.anchor(Settings(), "toy")
    assert (shown["version"], shown["actor"], shown["reason"], shown["files"]) == (
        second,
        "cli:ada",
        "new clinic",
        "can be opened",
    )
    fourth = judge(week(4))
    assert all(second in check["note"] for check in anchor_checks(fourth).values())


def test_a_first_champion_that_is_gone_is_passed_over_with_the_remedy(
    bounded: Problem, land: Land, volume: Store
) -> None:
    land("base.csv", 1, "2026-02-01")
    first, _ = promoted(1), promoted(2)
    shutil.rmtree(volume.version(first))
    result = judge(week(3))
    (check,) = anchor_checks(result).values()
    assert (check["passed"], result["passed"]) == (True, True)
    assert "bc-pipeline anchor set" in check["note"]
    assert first in steps.anchor(Settings(), "toy")["files"]


def test_an_anchor_that_was_set_must_be_there(bounded: Problem, land: Land, volume: Store) -> None:
    land("base.csv", 1, "2026-02-01")
    _, second, _ = promoted(1), promoted(2), promoted(3)
    steps.set_anchor(Settings(), "toy", second, actor="cli:ada", reason="new clinic")
    shutil.rmtree(volume.version(second))
    result = judge(week(4))
    assert not result["passed"]
    assert list(anchor_checks(result)) == ["anchor"]
