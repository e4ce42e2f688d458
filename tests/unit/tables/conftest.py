from __future__ import annotations

import pytest

from bc_pipeline.labels import Label, Labels
from bc_pipeline.row_rule import RowRule
from bc_pipeline.schema import Feature, FeatureSchema


@pytest.fixture(scope="session")
def pair() -> FeatureSchema:
    """Two features, of which the second is never the smaller."""
    return FeatureSchema(
        features=(Feature("low", "1", -1e300, 1e300), Feature("high", "1", -1e300, 1e300)),
        rules=(RowRule("order", "at_least", "high", "low"),),
    )


@pytest.fixture(scope="session")
def sides() -> Labels:
    return Labels("side", Label("left", 0, ("l", "0")), Label("right", 1, ("r", "1")))
