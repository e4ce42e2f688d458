"""What counts as the champion's recipe: builder, parameters, libraries, and the split."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import SplitChanged
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings
from bc_pipeline.training.challenger import library_versions
from tests.unit.steps.runs import judge, week

pytestmark = pytest.mark.usefixtures("sound_service")

Land = Callable[..., Path]


@pytest.fixture
def volume(settings: Settings) -> Store:
    return Store(settings.home, "toy")


def _weaker_logistic(params: Any, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    weaker = params | {"C": params["C"] / 100}
    return make_pipeline(StandardScaler(), LogisticRegression(random_state=seed, **weaker))


def _logistic_in_other_words(params: Any, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(**params, random_state=seed)
    return Pipeline([("standardscaler", StandardScaler()), ("logisticregression", model)])


def rebuild(monkeypatch: pytest.MonkeyPatch, toy: Problem, build: Callable[..., Any]) -> None:
    """Let the logistic candidate of the code be built in another way."""
    logistic, forest = toy.candidates
    candidates = (replace(logistic, build=build), forest)
    problem = replace(toy, candidates=candidates)
    monkeypatch.setattr("bc_pipeline.problems.PROBLEMS", (problem,))
    monkeypatch.setattr("bc_pipeline.training.results.code_version", lambda: build.__name__)
    monkeypatch.setattr("bc_pipeline.training.challenger.code_version", lambda: build.__name__)


def checks_of(verdict: dict[str, Any]) -> dict[str, Any]:
    found = steps.verdict(Settings(), "toy", verdict["version"])
    return {check["name"]: check for check in found["checks"]}


def test_another_builder_of_the_same_name_and_parameters_is_no_refresh(
    toy: Problem, land: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    rebuild(monkeypatch, toy, _weaker_logistic)
    verdict = judge(week(2))
    assert (verdict["kind"], verdict["passed"]) == ("switch", False)
    note = checks_of(verdict)["recipe_gain"]["note"]
    assert "source of logistic's builder is another" in note
    assert "differ by up to" in note
    assert "another name" in note


def test_a_builder_with_the_same_probabilities_is_a_refresh(
    toy: Problem, land: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    rebuild(monkeypatch, toy, _logistic_in_other_words)
    verdict = judge(week(2))
    assert (verdict["kind"], verdict["passed"]) == ("refresh", True)
    found = steps.verdict(Settings(), "toy", verdict["version"])
    assert "probabilities agree to 1e-09" in found["kind_note"]


@pytest.mark.parametrize(
    ("build", "kind"), [(_logistic_in_other_words, "refresh"), (_weaker_logistic, "switch")]
)
def test_a_champion_of_an_earlier_format_is_known_by_its_probabilities(
    toy: Problem, land: Land, monkeypatch: pytest.MonkeyPatch, build: Callable[..., Any], kind: str
) -> None:
    land("base.csv", 1, "2026-02-01")
    with monkeypatch.context() as patch:
        patch.setattr("bc_pipeline.problems.base.Candidate.source", None)
        steps.promote(Settings(), week(1), judge(week(1))["version"])
    rebuild(monkeypatch, toy, build)
    verdict = judge(week(2))
    assert verdict["kind"] == kind
    found = steps.verdict(Settings(), "toy", verdict["version"])
    assert "is unknown for the champion" in found["kind_note"]


def test_a_champion_whose_dataset_is_gone_is_not_taken_for_the_same(
    toy: Problem, land: Land, volume: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    shutil.rmtree(volume.datasets)
    land("more.csv", 2, "2026-03-01T12:00:00Z")
    rebuild(monkeypatch, toy, _logistic_in_other_words)
    verdict = judge(week(2))
    assert verdict["kind"] == "switch"
    assert "could not be compared" in checks_of(verdict)["recipe_gain"]["note"]


def test_other_library_versions_make_a_refresh_that_is_marked(
    toy: Problem, land: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    land("base.csv", 1, "2026-02-01")
    with monkeypatch.context() as patch:
        earlier = library_versions() | {"scikit-learn": "1.0.1"}
        patch.setattr("bc_pipeline.training.challenger.library_versions", lambda: earlier)
        steps.promote(Settings(), week(1), judge(week(1))["version"])
    verdict = judge(week(2))
    assert (verdict["kind"], verdict["passed"]) == ("refresh", True)
    found = steps.verdict(Settings(), "toy", verdict["version"])
    current = library_versions()["scikit-learn"]
    assert found["kind_note"] == f"refresh under scikit-learn 1.0.1 -> {current}"


@pytest.mark.parametrize(
    ("change", "named"), [({"salt": "other"}, "salt"), ({"holdout_share": 0.25}, "holdout_share")]
)
def test_another_split_than_the_champions_is_refused_by_name(
    toy: Problem, land: Land, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], named: str
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    changed = replace(toy, split=replace(toy.split, **change))
    monkeypatch.setattr("bc_pipeline.problems.PROBLEMS", (changed,))
    with pytest.raises(SplitChanged, match=f"changed in {named} since") as caught:
        judge(week(2))
    assert caught.value.differing == (named,)
    assert "name of its own" in str(caught.value)
