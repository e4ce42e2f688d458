from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bc_pipeline.artifacts.evaluated_rows import evaluated_rows, metric_names
from bc_pipeline.artifacts.evidence import CallScore, Confusion, Evaluation, Interval

EARLIER = (
    Path(__file__).parents[2] / "contract/fixtures/store_1/models/wdbc/versions"
    "/20261121T181639Z-logistic-2a39830e8e/evaluation.json"
)
NESTED = CallScore("d", Confusion(150, 9, 240, 5), {"sensitivity": 0.968}, {})


@pytest.fixture
def earlier() -> Evaluation:
    """Of release 0.1, which had neither nested calls nor the net benefit of calling every row."""
    return msgspec.json.decode(EARLIER.read_bytes(), type=Evaluation)


def test_nested_cross_validation_comes_first(earlier: Evaluation) -> None:
    nested, cross_validation, holdout = evaluated_rows(
        msgspec.structs.replace(earlier, nested=NESTED)
    )
    assert (nested.rows, nested.count, nested.metrics) == ("nested", 404, {"sensitivity": 0.968})
    assert nested.treat_all is None
    assert cross_validation.metrics == earlier.cross_validation.metrics
    assert (holdout.rows, holdout.count) == ("holdout", 110)
    assert isinstance(holdout.intervals["f1"], Interval)
    assert metric_names((nested, holdout))[0] == "sensitivity"
    assert metric_names((nested, holdout)).count("sensitivity") == 1


def test_net_benefit_stands_beside_calling_every_row_or_none(earlier: Evaluation) -> None:
    score = msgspec.structs.replace(earlier.cross_validation, treat_all=0.3125)
    part, _ = evaluated_rows(msgspec.structs.replace(earlier, cross_validation=score))
    assert (part.treat_all, part.treat_none) == (0.3125, 0.0)


def test_an_evaluation_of_an_earlier_release_has_two_parts(earlier: Evaluation) -> None:
    parts = evaluated_rows(earlier)
    assert [(part.rows, part.treat_all) for part in parts] == [
        ("cross_validation", None),
        ("holdout", None),
    ]
