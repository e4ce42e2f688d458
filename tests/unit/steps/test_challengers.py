"""Which challengers a run has, and which of them wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import VersionConflict
from bc_pipeline.problems.base import Candidate, Problem
from bc_pipeline.settings import Settings
from tests.unit.steps.runs import judge, week

pytestmark = pytest.mark.usefixtures("sound_service")

Land = Callable[..., Path]
Use = Callable[..., None]


@pytest.fixture
def use(toy: Problem, monkeypatch: pytest.MonkeyPatch) -> Use:
    """``use(candidate, ...)`` lets the code have these candidates."""

    def change(*candidates: Candidate) -> None:
        problem = replace(toy, candidates=candidates)
        monkeypatch.setattr("bc_pipeline.problems.PROBLEMS", (problem,))

    return change


def nearly(candidate: Candidate) -> Candidate:
    """A more complex candidate that is as good."""
    params = dict(candidate.params) | {"C": 1.05}
    return replace(candidate, name="nearly", complexity=3, params=params)


def kinds(result: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(each["kind"], each["passed"]) for each in result["challengers"]]


def test_a_champion_that_is_not_selected_is_refreshed(
    toy: Problem, land: Land, use: Use, settings: Settings
) -> None:
    """Selection takes the simpler of two equal recipes, and the gate keeps the tie."""
    land("base.csv", 1, "2026-02-01")
    use(nearly(toy.candidates[0]))
    first = judge(week(1))
    steps.promote(Settings(), week(1), first["version"])
    use(toy.candidates[0], nearly(toy.candidates[0]))
    land("more.csv", 2, "2026-03-01T12:00:00Z")
    result = judge(week(2))
    assert kinds(result) == [("switch", False), ("refresh", True)]
    assert (result["passed"], result["kind"]) == (True, "refresh")
    assert "-nearly-" in result["version"]
    assert steps.promote(Settings(), week(2), result["version"])["changed"]
    store = Store(settings.home, "toy")
    files = versions.open_champion(store, settings.verify_key)
    assert files.manifest.lineage.refit
    assert "the champion's, fitted again" in files.read("card.md").decode()
    # The same run again: nothing new.
    registry = store.registry.read_bytes()
    assert judge(week(2)) == result
    assert not steps.promote(Settings(), week(2), result["version"])["changed"]
    assert store.registry.read_bytes() == registry
    assert steps.verify_repro(Settings(), "toy", None)["version"] == result["version"]


def test_the_champions_recipe_is_one_challenger_where_it_is_selected(
    toy: Problem, land: Land
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    result = judge(week(2))
    assert kinds(result) == [("refresh", True)]
    assert result["challengers"][0]["version"] == result["version"]


def test_a_switch_that_passes_wins_and_exactly_one_is_promoted(
    toy: Problem, land: Land, use: Use, settings: Settings
) -> None:
    logistic, forest = toy.candidates
    for number in range(1, 6):
        land(f"{number}.csv", number, "2026-02-01")
    use(forest)
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    use(logistic, forest)
    result = judge(week(2))
    assert kinds(result) == [("switch", True), ("refresh", True)]
    assert result["kind"] == "switch"
    store = Store(settings.home, "toy")
    staging = read_registry(store).staging
    assert staging is not None
    assert staging.version == result["version"]
    steps.promote(Settings(), week(2), result["version"])
    registry = read_registry(store)
    assert (registry.generation, registry.staging) == (2, None)
    with pytest.raises(VersionConflict):
        steps.promote(Settings(), week(2), result["challengers"][1]["version"])


def test_a_champion_that_the_code_does_not_build_any_more_is_not_refitted(
    toy: Problem, land: Land, use: Use
) -> None:
    logistic, forest = toy.candidates
    land("base.csv", 1, "2026-02-01")
    use(nearly(logistic))
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    use(logistic, forest)
    result = judge(week(2))
    assert kinds(result) == [("switch", False)]
    checks = steps.verdict(Settings(), "toy", result["version"])["checks"]
    note = next(check["note"] for check in checks if check["name"] == "recipe_gain")
    assert "This code has no candidate nearly" in note


def test_the_reasons_of_all_are_said_where_none_passed(toy: Problem, land: Land, use: Use) -> None:
    land("base.csv", 1, "2026-02-01")
    use(nearly(toy.candidates[0]))
    steps.promote(Settings(), week(5), judge(week(5))["version"])
    use(toy.candidates[0], nearly(toy.candidates[0]))
    result = judge(week(3))
    assert kinds(result) == [("switch", False), ("refresh", False)]
    for challenger in result["challengers"]:
        assert f"{challenger['version']} ({challenger['kind']}): not met: " in " ".join(
            result["reasons"]
        )
