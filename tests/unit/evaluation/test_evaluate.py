from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bc_pipeline.artifacts.evidence import Evaluation
from bc_pipeline.artifacts.files import decode_document, encode_document
from bc_pipeline.errors import DegenerateModel, EvidenceMismatch


def test_the_first_model_is_scored_without_a_champion(case) -> None:
    found = case.evaluate(case.model("v1"))
    assert found.champion is None
    assert found.holdout_comparisons == ()
    assert found.recipe_comparison is None
    assert found.challenger.holdout.keys == case.holdout.keys
    assert found.cross_validation.keys == case.train.keys
    assert found.challenger.holdout.metrics["roc_auc"] > 0.97
    expected = case.predict(case.holdout.values)
    assert found.challenger.holdout.probability == tuple(expected)


def test_both_are_scored_on_the_same_rows_each_at_its_own_threshold(case) -> None:
    champion = case.model("v1", threshold=0.6)
    found = case.evaluate(case.model("v2", threshold=0.2), champion)
    assert found.champion.holdout.rows_digest == found.challenger.holdout.rows_digest
    assert (found.champion.holdout.threshold, found.challenger.holdout.threshold) == (0.6, 0.2)
    assert found.cross_validation.threshold == 0.2
    assert [c.metric for c in found.holdout_comparisons] == [
        margin.metric for margin in case.problem.gate.margins
    ]
    assert found.champion_generation == 1


def test_bounds_of_slices_come_from_train_rows(case) -> None:
    found = case.evaluate(case.model("v1"))
    for score in (found.challenger.holdout, found.cross_validation):
        rows = {part.name: part.rows for part in score.slices}
        assert rows["small nuclei"] + rows["large nuclei"] == len(score.keys)
    rows = {part.name: part.rows for part in found.cross_validation.slices}
    assert abs(rows["small nuclei"] - rows["large nuclei"]) <= 10


def test_recipes_are_compared_only_where_they_differ_and_both_were_measured(case) -> None:
    losses = {
        "logistic-1": np.linspace(0.03, 0.05, 50).reshape(10, 5),
        "forest-1": np.linspace(0.02, 0.03, 50).reshape(10, 5),
    }
    champion = case.model("v1")
    same = case.evaluate(case.model("v2"), champion, losses=losses)
    assert same.recipe_comparison is None
    other = case.evaluate(case.model("v2", recipe="forest-1"), champion, losses=losses)
    assert other.recipe_comparison.gain == pytest.approx(0.015)
    unknown = case.evaluate(case.model("v2", recipe="boost-1"), champion, losses=losses)
    assert unknown.recipe_comparison is None


def test_the_same_inputs_give_the_same_bytes_and_survive_the_file(case, tmp_path) -> None:
    first, again = (case.evaluate(case.model("v2"), case.model("v1")) for _ in range(2))
    data = encode_document(first)
    assert data == encode_document(again)
    assert decode_document(data, Evaluation, tmp_path / "evaluation.json") == first


def test_a_model_that_gives_no_probability_is_refused(case) -> None:
    broken = case.model("v1", positive=lambda values: np.full(len(values), np.nan))
    with pytest.raises(DegenerateModel):
        case.evaluate(broken)


def test_out_of_fold_probabilities_of_other_rows_are_refused(case) -> None:
    with pytest.raises(EvidenceMismatch):
        case.evaluate(case.model("v1"), oof_probability=case.oof[:-1])


def test_the_evaluation_has_no_feature_values(case) -> None:
    plain = msgspec.to_builtins(case.evaluate(case.model("v1")))
    assert "values" not in str(sorted(plain["challenger"]["holdout"]))
