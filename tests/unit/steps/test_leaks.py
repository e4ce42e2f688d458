"""A batch in which a feature was made from the label, from landing to the verdict."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts import signed_bundle, versions, work_folder
from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.files import encode_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.verdict import Verdict
from bc_pipeline.data.batches import list_batches
from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import LeakPolicy
from bc_pipeline.settings import Settings
from tests.unit.steps.runs import judge, week

pytestmark = pytest.mark.usefixtures("sound_service")

Land = Callable[..., Path]
# Its Brier score is of no interest here.
LEAK = LeakPolicy(brier=0.0, deviation=0.0)


@pytest.fixture
def lenient(toy: Problem, monkeypatch: pytest.MonkeyPatch) -> Problem:
    """The toy, in which nothing but a leak is refused."""
    gate = replace(toy.gate, floors=(), f1_tie=1.0, margins=(), slice_sensitivity=0.0)
    problem = replace(toy, gate=gate)
    monkeypatch.setattr("bc_pipeline.problems.PROBLEMS", (problem,))
    return problem


@pytest.fixture
def guarded(lenient: Problem, monkeypatch: pytest.MonkeyPatch) -> Problem:
    problem = replace(lenient, gate=replace(lenient.gate, leak=LEAK))
    monkeypatch.setattr("bc_pipeline.problems.PROBLEMS", (problem,))
    return problem


def land_leak(land: Land) -> None:
    """57 rows whose weight, which otherwise says nothing, is made from the label."""
    path = land("leak.csv", 2, "2026-03-02T12:00:00Z")
    modified = path.stat().st_mtime
    header, *rows = csv.reader(path.read_text().splitlines())
    noise = np.random.default_rng(4).normal(0, 0.02, 57)
    for row, off in zip(rows, noise.tolist(), strict=False):
        row[1] = f"{5 + (row[3] == '5') + off:.4f}"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows[:57]])
    os.utime(path, (modified, modified))


def verdict_of(settings: Settings, version: str) -> Verdict:
    stored = versions.open_stored(Store(settings.home, "toy"), version, settings.verify_key)
    return stored.read_document(signed_bundle.VERDICT, Verdict)


def promote_clean(land: Land) -> None:
    land("base.csv", 1, "2026-02-01")
    first = judge(week(1))
    assert first["passed"], first["reasons"]
    steps.promote(Settings(), week(1), first["version"])


def test_without_the_policy_a_leak_passes(lenient: Problem, land: Land) -> None:
    promote_clean(land)
    land_leak(land)
    assert judge(week(3))["passed"]


def test_a_leak_in_one_batch_is_refused_by_name(
    guarded: Problem, land: Land, settings: Settings
) -> None:
    promote_clean(land)
    land_leak(land)
    result = judge(week(3))

    assert not result["passed"]
    (batch,) = [
        each.batch for each in list_batches(Store(settings.home, "toy")) if each.accepted == 57
    ]
    (failed,) = [
        check for check in verdict_of(settings, result["version"]).checks if not check.passed
    ]
    assert failed.name == "single_feature_auc"
    assert failed.note.startswith("weight alone tells the label: AUC 1.00, 0.60 in ")
    assert failed.note.endswith(f"the reference (57 rows of batch {batch}).")


def test_removed_figures_are_not_what_the_rows_give(
    guarded: Problem, land: Land, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    land("base.csv", 1, "2026-02-01")
    undecided = {"version": "", "kind": "first", "passed": True, "reasons": []}
    with monkeypatch.context() as patch:
        patch.setattr(steps, "decide", lambda *_: undecided)
        judge(week(1))
    store = Store(settings.home, "toy")
    (folder,) = store.work.iterdir()
    exported = work_folder.open_challenger(store, folder.name, settings.verify_key)
    evaluated = work_folder.open_evaluated(store, folder.name, settings.verify_key)
    evaluation = evaluated.read_document(signed_bundle.EVALUATION, Evaluation)
    assert evaluation.separations is not None
    added = evaluated.manifest.files.keys() - exported.manifest.files.keys()
    files = {name: evaluated.read_stored(name) for name in added}
    files[signed_bundle.EVALUATION] = encode_document(
        msgspec.structs.replace(evaluation, separations=None)
    )
    work_folder.write_evidence(store, exported, files)
    with pytest.raises(EvidenceMismatch, match="separations differ"):
        steps.decide(Settings(), week(1), folder.name)
