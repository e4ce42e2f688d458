"""A predictor made by hand, for evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FakePredictor:
    """A version's fields that an evaluation has, and what the version answers."""

    version: str
    recipe: str
    title: str
    dataset: str
    as_of: str
    schema_fingerprint: str
    threshold: float
    positive: Predict

    @property
    def manifest(self) -> Any:
        return SimpleNamespace(
            version=self.version,
            recipe=SimpleNamespace(recipe=self.recipe, title=self.title),
            lineage=SimpleNamespace(dataset=self.dataset, as_of=self.as_of),
            schema_fingerprint=self.schema_fingerprint,
            threshold=self.threshold,
        )
