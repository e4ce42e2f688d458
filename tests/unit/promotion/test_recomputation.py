from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts.evidence import Evaluation, Parity
from bc_pipeline.errors import EvidenceMismatch
from bc_pipeline.promotion.recomputation import require_recomputed
from tests.unit.promotion.conftest import _side


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(
        problem="wdbc",
        challenger=_side("v2"),
        champion=_side("v1"),
        champion_generation=1,
        cross_validation=_side("v2").holdout,
        holdout_comparisons=(),
        recipe_comparison=None,
        parity=Parity(1, 0.0, 0),
    )


def with_holdout(evaluation: Evaluation, side: str, **changes: Any) -> Evaluation:
    changed = getattr(evaluation, side)
    holdout = msgspec.structs.replace(changed.holdout, **changes)
    return msgspec.structs.replace(
        evaluation, **{side: msgspec.structs.replace(changed, holdout=holdout)}
    )


def test_the_last_bits_may_differ(evaluation: Evaluation) -> None:
    require_recomputed(evaluation, evaluation)
    require_recomputed(
        evaluation, with_holdout(evaluation, "challenger", probability=(0.9 + 1e-12,))
    )


@pytest.mark.parametrize("side", ["challenger", "champion"])
@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"metrics": {"f1": 0.99}}, "holdout.metrics.f1"),
        ({"metrics": {}}, "holdout.metrics.f1"),
        ({"metrics": {"f1": 1.0, "brier": 0.0}}, "holdout.metrics.brier"),
        ({"metrics": {"f1": None}}, "holdout.metrics.f1"),
        ({"probability": (0.9 + 1e-8,)}, "holdout.probability"),
        ({"probability": (0.9, 0.9)}, "holdout.probability"),
        ({"positive": (0,)}, "holdout.positive"),
        ({"sensitivity_lower_bound": 0.5}, "holdout.sensitivity_lower_bound"),
    ],
)
def test_every_other_difference_is_refused_by_name(
    evaluation: Evaluation, side: str, changes: dict[str, Any], name: str
) -> None:
    with pytest.raises(EvidenceMismatch) as caught:
        require_recomputed(with_holdout(evaluation, side, **changes), evaluation)
    assert f"rows: {side}.{name} differ." in caught.value.message
    assert (caught.value.champion, caught.value.challenger) == ("v1", "v2")


def test_many_differences_are_counted(evaluation: Evaluation) -> None:
    metrics = {f"m{number}": 0.5 for number in range(12)}
    with pytest.raises(EvidenceMismatch, match=r"challenger\.holdout\.metrics\.m9 and 3 more"):
        require_recomputed(with_holdout(evaluation, "challenger", metrics=metrics), evaluation)


def test_an_evaluation_without_champion_lacks_what_the_other_has(evaluation: Evaluation) -> None:
    alone = msgspec.structs.replace(evaluation, champion=None)
    with pytest.raises(EvidenceMismatch, match="rows: champion differ") as caught:
        require_recomputed(alone, evaluation)
    assert caught.value.champion == ""
