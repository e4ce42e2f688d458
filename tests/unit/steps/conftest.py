"""A toy problem with nothing of breast cancer in it: generic code must do with it as it is."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bc_pipeline.problems
from bc_pipeline.artifacts.verdict import Smoke
from bc_pipeline.clock import parse_time
from bc_pipeline.labels import Label, Labels
from bc_pipeline.problems.base import Candidate, Problem, Reference, Slice, Study
from bc_pipeline.problems.policies import Floor, GatePolicy, Margin, SelectionPolicy, SplitPolicy
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.schema import Feature, FeatureSchema
from bc_pipeline.settings import Settings
from bc_pipeline.stack.credentials import make_secrets

NAMES = ("colour", "weight", "firmness")


def _rows(seed: int, count: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Values, shape (count, 3), and outside codes: 5 is ripe, 7 is not."""
    generator = np.random.default_rng(seed)
    ripe = generator.random(count) < 0.4
    centre = np.where(ripe[:, None], [6.0, 5.0, 3.0], [3.5, 5.0, 6.0])
    values = np.clip(np.round(generator.normal(centre, 1.1), 4), 0.01, 20)
    return values, np.where(ripe, 5, 7)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Problem:
    """The toy problem, known to the package, with suites in a project folder of its own."""
    recipes = {candidate.name: candidate for candidate in WDBC.candidates}
    problem = Problem(
        name="toy",
        title="Is the fruit ripe?",
        schema=FeatureSchema(tuple(Feature(name, "1", 0, 20) for name in NAMES)),
        labels=Labels(
            "state", Label("ripe", 5, ("ripe", "5")), Label("green", 7, ("green", "7")), ("state",)
        ),
        load_reference=lambda: Reference(*_rows(1)),
        candidates=(
            recipes["logistic"],
            Candidate(
                "forest", "Small forest", 2, {"n_estimators": 8}, recipes["random_forest"].build
            ),
        ),
        split=SplitPolicy(salt="toy", holdout_share=0.3),
        selection=SelectionPolicy(
            folds=3, repeats=2, seed=3, sensitivity_target=0.9, noise_alpha=0.05
        ),
        gate=GatePolicy(
            floors=(Floor("roc_auc", "holdout", 0.85), Floor("f1", "holdout", 0.7)),
            f1_tie=0.02,
            margins=(Margin("brier", 0.02, "lower"),),
            switch_alpha=0.05,
            slice_minimum_rows=5,
            slice_sensitivity=0.3,
            parity_bound=1e-12,
            smoke_latency_ms=500.0,
            bootstrap_rounds=200,
        ),
        slices=(Slice("light", "weight", 0.0, 0.5),),
        decision_threshold_cost=0.2,
        study=Study(
            setting="An orchard.",
            dates="Autumn.",
            eligibility="Fruit.",
            reference_standard="Tasting.",
            limits=("One orchard.",),
            prevalences=(0.5,),
        ),
    )
    monkeypatch.setattr(bc_pipeline.problems, "PROBLEMS", (problem,))
    project = tmp_path / "project"
    suites = project / "expectations" / "toy"
    suites.mkdir(parents=True)
    for purpose, columns in (("labelled", ["id", *NAMES, "state"]), ("scoring", ["id", *NAMES])):
        (suites / f"{purpose}.json").write_text(json.dumps(_suite(purpose, columns)))
    monkeypatch.setenv("BC_PROJECT_DIR", str(project))
    make_secrets(Settings())
    return problem


@pytest.fixture
def sound_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smoke test that passes at once: starting the service takes seconds."""
    answers = Smoke(passed=True, rows=16, worst_difference=0.0, median_ms=1.0)
    monkeypatch.setattr("bc_pipeline.promotion.judge.smoke_test", lambda *_, **__: answers)


def _suite(purpose: str, columns: list[str]) -> dict[str, object]:
    expectations: list[dict[str, object]] = [
        {"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": columns}},
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}},
        *(
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": column}}
            for column in NAMES
        ),
    ]
    return {"name": f"toy_{purpose}", "expectations": expectations}


@pytest.fixture
def land(settings: Settings) -> Callable[..., Path]:
    """Land a file of fresh rows; ``noisy`` gives every second row the other label."""

    def make(name: str, seed: int, arrived: str, *, noisy: bool = False) -> Path:
        values, codes = _rows(seed)
        path = settings.home / "data" / "toy" / "landing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([*NAMES, "state"])
            for number, (row, code) in enumerate(zip(values.tolist(), codes.tolist(), strict=True)):
                if noisy:
                    # Words: codes that do not agree with the rows would be refused.
                    code = {5: "ripe", 7: "green"}[12 - code if number % 2 else code]
                writer.writerow([*row, code])
        moment = parse_time(arrived).timestamp()
        os.utime(path, (moment, moment))
        return path

    return make
