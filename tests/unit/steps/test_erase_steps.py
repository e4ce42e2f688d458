"""Versions and their reproduction after an erasure; scores; a problem without near-twins."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline import steps
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.batches import list_batches, read_batch
from bc_pipeline.data.erasure_notes import list_notes
from bc_pipeline.errors import NotReproducible, RowsErased
from bc_pipeline.problems.base import Problem
from bc_pipeline.scoring.output_folder import read_manifest
from bc_pipeline.settings import Settings
from bc_pipeline.training import candidates
from tests.unit.steps.runs import judge, week

Land = Callable[..., Path]


def first_row(problem: Problem, store: Store, path: Path) -> Path:
    """A file with the first row of a batch, under the name that a worklist would give it."""
    rows = read_batch(problem, store, list_batches(store)[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([problem.schema.names, rows.values[0].tolist()])
    return path


@pytest.mark.usefixtures("sound_service")
def test_a_version_that_was_trained_on_erased_rows_says_so(
    toy: Problem, land: Land, tmp_path: Path
) -> None:
    land("a.csv", 1, "2026-02-01T00:00:00Z")
    verdict = judge(week(1))
    version, store = verdict["version"], Store.of(Settings(), "toy")
    steps.promote(Settings(), week(1), version)
    who = first_row(toy, store, tmp_path / "who.csv")
    steps.batch_score(Settings(), week(1), str(who))

    done = steps.erase(Settings(), "toy", sample_file=who, reason="a letter", actor="cli:ada")
    assert done["versions"] == [version] == list(list_notes(store)[0].versions)
    # Two cross-validations were of the dataset, and the scores name the row by its key.
    assert (done["candidates"], done["scores"]) == (2, 1)
    folder = next(path for path in store.scores.glob("*/*") if path.is_dir())
    manifest = read_manifest(store, str(folder))
    assert manifest is not None
    assert len((folder / "who.scores.csv").read_text().splitlines()) == 1

    with pytest.raises(NotReproducible, match=r"rows of its dataset \w+ were erased.*0001"):
        steps.verify_repro(Settings(), "toy", version)
    with pytest.raises(RowsErased, match="erasure 0001"):
        steps.train(Settings(), week(1), done["datasets"][0], "logistic")
    with pytest.raises(RowsErased, match="erasure 0001"):
        steps.select(Settings(), week(1), done["datasets"][0])
    again = judge(week(2))
    assert again["version"] != version
    assert steps.verify_repro(Settings(), "toy", again["version"])["worst_difference"] <= 1e-12


@pytest.mark.usefixtures("sound_service")
def test_an_erasure_during_the_training_leaves_no_result_of_the_rows(
    toy: Problem, land: Land, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land("a.csv", 1, "2026-02-01T00:00:00Z")
    store = Store.of(Settings(), "toy")
    steps.ingest(Settings(), week(1))
    validation = steps.validate(Settings(), week(1))["validation"]
    dataset = steps.snapshot(Settings(), week(1), validation)["dataset"]
    who = first_row(toy, store, tmp_path / "who.csv")
    cross_validate = candidates.cross_validate

    def slowly(*arguments: Any, **keywords: Any) -> Any:
        done = steps.erase(Settings(), "toy", sample_file=who, reason="a letter", actor="cli:ada")
        assert done["candidates"] == 0
        return cross_validate(*arguments, **keywords)

    monkeypatch.setattr(candidates, "cross_validate", slowly)
    with pytest.raises(RowsErased, match="erasure 0001"):
        steps.train(Settings(), week(1), dataset, "logistic")
    assert not list(store.candidates.glob("[!.]*"))
