from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import Settings
from bc_pipeline.training.challenger import draft_manifest
from bc_pipeline.workspace import Run, open_first_workspace


class Side(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.values)


def test_ranges_and_medians_are_those_of_the_train_rows_alone(
    settings: Settings, wdbc: Problem, reference: Any
) -> None:
    values, _ = reference
    train, holdout = values[:401], values[401:]
    manifest = draft_manifest(
        open_first_workspace(settings, "wdbc"),
        Run("wdbc", "r", "2026-11-15T00:00:00Z"),
        # The part of a split that a manifest is made of.
        SimpleNamespace(train=Side(values=train), holdout=Side(values=holdout)),  # type: ignore[arg-type]
        dataset="d",
        batches=("b",),
        candidate=wdbc.candidate("logistic"),
        threshold=0.4,
        validation="v",
    )
    for index, name in enumerate(wdbc.schema.names):
        column = np.sort(train[:, index])
        assert manifest.training_median[name] == column[200]
        assert manifest.training_range[name] == (column[0], column[-1])
