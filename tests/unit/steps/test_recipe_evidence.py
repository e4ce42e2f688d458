"""Evidence of new rows, over batches that land one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts import signed_bundle, versions
from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.arrival_order import arrival_order
from bc_pipeline.data.batches import list_batches, read_batch
from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.problems.base import Candidate, Problem
from bc_pipeline.settings import Settings
from tests.unit.steps.runs import judge, week

pytestmark = pytest.mark.usefixtures("sound_service")

Land = Callable[..., Path]


def weak(candidate: Candidate) -> Candidate:
    """A recipe that hardly uses the features, so that another one is soon shown to be better."""
    return replace(candidate, name="weak", complexity=1, params={**candidate.params, "C": 1e-4})


@pytest.fixture
def sequential(toy: Problem, monkeypatch: pytest.MonkeyPatch) -> Problem:
    """The toy, in which only new rows can show a gain, and selection keeps the simplest recipe."""
    logistic = toy.candidates[0]
    problem = replace(
        toy,
        candidates=(weak(logistic), replace(logistic, complexity=2)),
        gate=replace(
            toy.gate, floors=(), f1_tie=1.0, margins=(), switch_alpha=1e-300, sequential_alpha=0.05
        ),
        selection=replace(toy.selection, noise_alpha=1e-300),
    )
    monkeypatch.setattr("bc_pipeline.problems.PROBLEMS", (problem,))
    return problem


def evaluation_of(settings: Settings, version: str) -> Evaluation:
    store = Store(settings.home, "toy")
    stored = versions.open_stored(store, version, settings.verify_key)
    return stored.read_document(signed_bundle.EVALUATION, Evaluation)


def test_a_better_recipe_is_found_by_new_rows_and_replaces_the_champion(
    sequential: Problem, land: Land, settings: Settings
) -> None:
    land("base.csv", 1, "2026-02-01")
    first = judge(week(1))
    assert "-weak-" in first["version"]
    steps.promote(Settings(), week(1), first["version"])
    for number in range(2, 5):
        land(f"{number}.csv", number, "2026-03-01T12:00:00Z")
    result = judge(week(2))

    kinds = [(each["kind"], each["passed"]) for each in result["challengers"]]
    assert kinds == [("switch", True), ("refresh", True)]
    assert "-logistic-" in result["version"]
    evidence = evaluation_of(settings, result["version"]).sequential
    assert evidence is not None
    assert evidence.rows > 300
    assert evidence.recipes == 1
    # The same run again counts no row twice.
    assert judge(week(2)) == result


def test_a_backfill_has_the_evidence_of_its_time_and_leaves_none(
    sequential: Problem, land: Land, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evidence(number: int) -> Any:
        """Of the better recipe, as a challenger in any case."""
        with monkeypatch.context() as patch:
            patch.setattr(
                "bc_pipeline.promotion.recipe_evidence.shown_better",
                lambda *args: list(args[-1]),
            )
            result = judge(week(number, live=number != 1))
        version = result["challengers"][0]["version"]
        return msgspec.to_builtins(evaluation_of(settings, version).sequential)

    land("base.csv", 1, "2026-02-01")
    steps.promote(Settings(), week(1), judge(week(1))["version"])
    land("two.csv", 2, "2026-03-03T12:00:00Z")
    early = evidence(2)
    late = evidence(4)
    assert 0 < early["rows"] < late["rows"]
    assert evidence(3) == early


def test_rows_are_in_the_order_in_which_their_batches_were_made(
    toy: Problem, land: Land, settings: Settings
) -> None:
    land("base.csv", 1, "2026-02-01")
    steps.ingest(Settings(), week(1))
    # It has an earlier date, and comes later.
    land("late.csv", 2, "2026-01-01")
    steps.ingest(Settings(), week(2))
    store = Store(settings.home, "toy")
    by_source = {batch.source: batch for batch in list_batches(store)}
    base, late = (
        sorted(read_batch(toy, store, by_source[name]).keys) for name in ("base.csv", "late.csv")
    )
    keys = sorted([*base, *late])
    names = [batch.batch for batch in by_source.values()]
    order = arrival_order(toy, store, names, keys)

    assert [keys[row] for row in order] == [*base, *late]
    with pytest.raises(EvidenceMismatch, match="in none of its batches"):
        arrival_order(toy, store, [by_source["late.csv"].batch], keys)
    assert np.array_equal(order, arrival_order(toy, store, names[::-1], keys))
