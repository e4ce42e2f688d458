from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from bc_pipeline.artifacts.files import encode_document, read_document
from bc_pipeline.artifacts.signed_document import write_signed, write_signed_document
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.split import SplitSide
from bc_pipeline.errors import (
    ArtifactCorrupt,
    DataError,
    DegenerateModel,
    EvidenceMismatch,
    NotReproducible,
    NotStored,
    SignatureInvalid,
)
from bc_pipeline.problems.base import Candidate, Problem
from bc_pipeline.training import results
from bc_pipeline.training.candidates import cross_validate, nested_threshold
from bc_pipeline.training.folds import assign_folds
from bc_pipeline.training.out_of_fold_rows import OutOfFoldRows
from bc_pipeline.training.results import (
    CandidateDocument,
    CandidateResult,
    load_result,
    store_result,
)

if TYPE_CHECKING:
    from pathlib import Path

DATASET = "0123456789abcdef"
MakeFake = Callable[[Callable[[np.ndarray], np.ndarray]], Candidate]


def run(problem: Problem, candidate: Candidate, rows: SplitSide, store: Store) -> CandidateResult:
    return cross_validate(
        problem,
        candidate,
        rows,
        store=store,
        dataset=DATASET,
    )


def only_folder(store: Store) -> Path:
    (folder,) = store.candidates.iterdir()
    return folder


def test_each_probability_comes_from_a_fit_without_the_row(
    quick: Problem, rows: SplitSide, store: Store
) -> None:
    candidate = quick.candidate("logistic")
    result = run(quick, candidate, rows, store)

    fold_of = assign_folds(rows.keys, rows.positive, quick.selection)[1]
    test = fold_of == 2
    estimator = candidate.build(candidate.params, quick.selection.seed)
    estimator.fit(rows.values[~test], rows.positive[~test])
    expected = estimator.predict_proba(rows.values[test])[:, 1]

    assert result.probability.shape == (2, 120)
    np.testing.assert_allclose(result.probability[1, test], expected, rtol=0, atol=1e-12)
    loss = np.mean((expected - rows.positive[test]) ** 2)
    assert result.losses[1, 2] == pytest.approx(loss, abs=1e-12)


def test_the_metrics_are_those_of_the_probabilities(
    quick: Problem, rows: SplitSide, store: Store
) -> None:
    result = run(quick, quick.candidate("logistic"), rows, store)

    calls = result.probability > 0.5
    metrics = result.document.metrics
    assert metrics["brier"] == pytest.approx(result.losses.mean())
    assert metrics["sensitivity"] == pytest.approx(calls[:, rows.positive == 1].mean())
    assert metrics["specificity"] == pytest.approx((~calls)[:, rows.positive == 0].mean())
    assert 0.95 < metrics["roc_auc"] <= 1.0
    np.testing.assert_allclose(result.pooled, result.probability.mean(axis=0))


def test_the_second_call_reads_what_the_first_stored(
    quick: Problem, rows: SplitSide, store: Store
) -> None:
    fits: list[int] = []
    logistic = quick.candidate("logistic")

    def counting(params: Any, seed: int) -> Any:
        fits.append(seed)
        return logistic.build(params, seed)

    candidate = replace(logistic, build=counting)
    with capture_logs() as logs:
        first = run(quick, candidate, rows, store)
        second = run(quick, candidate, rows, store)

    assert fits == [5] * (2 * 3 + 3 * 3)  # Repeats by folds, and folds within folds.
    assert [line["repeat"] for line in logs] == [False, True]
    assert second.document == first.document
    np.testing.assert_array_equal(second.probability, first.probability)
    np.testing.assert_array_equal(second.positive, rows.positive)
    assert load_result(store, quick, DATASET, candidate).document == first.document


def test_the_same_inputs_give_the_same_bytes(quick: Problem, rows: SplitSide, store: Store) -> None:
    other = Store(store.home / "other", store.problem, store.signing_key, store.verify_key)
    for each_store in (store, other):
        run(quick, quick.candidate("logistic"), rows, each_store)

    one, two = only_folder(store), only_folder(other)
    assert one.name == two.name
    assert {file.name: file.read_bytes() for file in one.iterdir()} == {
        file.name: file.read_bytes() for file in two.iterdir()
    }


def test_each_input_has_a_result_of_its_own(
    quick: Problem, rows: SplitSide, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    logistic = quick.candidate("logistic")
    run(quick, logistic, rows, store)

    absent = [
        (quick, "another", logistic),
        (quick, DATASET, quick.candidate("loose")),
        (quick, DATASET, replace(logistic, params={"C": 2.0, "max_iter": 2000})),
        (replace(quick, selection=replace(quick.selection, seed=6)), DATASET, logistic),
        (replace(quick, selection=replace(quick.selection, repeats=3)), DATASET, logistic),
        (replace(quick, split=replace(quick.split, salt="other")), DATASET, logistic),
    ]
    for problem, dataset, candidate in absent:
        with pytest.raises(NotStored):
            load_result(store, problem, dataset, candidate)
    monkeypatch.setattr(results, "code_version", lambda: "0.0.0+other")
    with pytest.raises(NotStored, match=r"0\.0\.0\+other"):
        load_result(store, quick, DATASET, logistic)


def test_damaged_probabilities_are_refused(quick: Problem, rows: SplitSide, store: Store) -> None:
    run(quick, quick.candidate("logistic"), rows, store)
    file = only_folder(store) / results.PROBABILITY_FILE
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)

    with pytest.raises(ArtifactCorrupt, match="differs from its digest"):
        run(quick, quick.candidate("logistic"), rows, store)
    file.unlink()
    with pytest.raises(ArtifactCorrupt, match="lacks its probabilities"):
        load_result(store, quick, DATASET, quick.candidate("logistic"))


@pytest.mark.parametrize(
    "change",
    [
        {"losses": ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))},
        {"losses": ((0.0,),)},
        {"metrics": {"brier": 0.0, "roc_auc": 1.0, "sensitivity": 1.0, "specificity": 1.0}},
        {"metrics": {}},
        {"dataset": "another"},
        {"rows_digest": "0" * 64},
        {"code_version": "0.0.0+other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_document_that_differs_from_its_probabilities_is_refused(
    change: dict[str, Any], quick: Problem, rows: SplitSide, store: Store
) -> None:
    run(quick, quick.candidate("logistic"), rows, store)
    file = only_folder(store) / results.RESULT_FILE
    record = read_document(file, CandidateDocument)
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    changed = CandidateDocument(**(fields | change))
    file.write_bytes(encode_document(changed))
    with pytest.raises(SignatureInvalid, match=r"result\.json was changed"):
        load_result(store, quick, DATASET, quick.candidate("logistic"))
    write_signed_document(store, file, changed)

    with pytest.raises(ArtifactCorrupt, match="does not follow"):
        load_result(store, quick, DATASET, quick.candidate("logistic"))


def test_an_invalid_document_is_refused(quick: Problem, rows: SplitSide, store: Store) -> None:
    run(quick, quick.candidate("logistic"), rows, store)
    write_signed(store, only_folder(store) / results.RESULT_FILE, b"{}")

    with pytest.raises(ArtifactCorrupt):
        load_result(store, quick, DATASET, quick.candidate("logistic"))


def test_a_stored_result_is_not_returned_for_other_rows(
    quick: Problem, rows: SplitSide, store: Store
) -> None:
    run(quick, quick.candidate("logistic"), rows, store)
    flipped = replace(rows, positive=1 - rows.positive)

    with pytest.raises(EvidenceMismatch, match="other rows"):
        run(quick, quick.candidate("logistic"), flipped, store)


def only_rows(result: CandidateResult) -> OutOfFoldRows:
    return OutOfFoldRows(
        **{each.name: getattr(result, each.name) for each in fields(OutOfFoldRows)}
    )


def test_an_equal_result_of_a_faster_process_is_accepted(
    quick: Problem, rows: SplitSide, store: Store
) -> None:
    candidate = quick.candidate("logistic")
    first = run(quick, candidate, rows, store)

    again = store_result(store, quick, DATASET, candidate, only_rows(first))

    assert again.document == first.document
    assert len(list(only_folder(store).parent.iterdir())) == 1


def test_another_result_of_a_faster_process_is_an_error(
    quick: Problem, rows: SplitSide, store: Store
) -> None:
    candidate = quick.candidate("logistic")
    first = run(quick, candidate, rows, store)

    other = replace(only_rows(first), probability=first.probability / 2)
    with pytest.raises(NotReproducible):
        store_result(store, quick, DATASET, candidate, other)
    assert load_result(store, quick, DATASET, candidate).document == first.document


@pytest.mark.parametrize("value", [0.5, np.nan], ids=["constant", "nan"])
def test_a_degenerate_candidate_leaves_nothing_behind(
    value: float, fake: MakeFake, quick: Problem, rows: SplitSide, store: Store
) -> None:
    with pytest.raises(DegenerateModel):
        run(quick, fake(lambda values: np.full(len(values), value)), rows, store)
    assert not store.candidates.exists()


def test_the_nested_threshold_of_a_fold_does_not_depend_on_its_rows(
    quick: Problem, rows: SplitSide
) -> None:
    policy, candidate = quick.selection, quick.candidate("logistic")
    (fold_of,) = assign_folds(rows.keys, rows.positive, replace(policy, repeats=1))
    before = nested_threshold(policy, candidate, rows, threads=1)
    changed = replace(rows, values=rows.values.copy())
    changed.values[fold_of == 0] *= 0.5

    after = nested_threshold(policy, candidate, changed, threads=1)

    assert (before[fold_of == 0] == after[fold_of == 0]).all()
    assert (before[fold_of != 0] != after[fold_of != 0]).all()
    assert len(set(before.tolist())) == policy.folds


def test_a_result_gives_nested_calls(quick: Problem, rows: SplitSide, store: Store) -> None:
    result = run(quick, quick.candidate("logistic"), rows, store)

    nested = result.nested_call
    assert (nested == (result.probability[0] > result.nested_threshold)).all()
    metrics = load_result(store, quick, DATASET, quick.candidate("logistic")).document.metrics
    assert metrics["nested_sensitivity"] == nested[rows.positive == 1].mean()
    assert metrics["nested_specificity"] == 1 - nested[rows.positive == 0].mean()


def test_too_few_rows_of_a_class_are_refused_before_anything_is_fitted(
    quick: Problem, rows: SplitSide, store: Store
) -> None:
    positive = np.flatnonzero(rows.positive == 1)
    negative = np.flatnonzero(rows.positive == 0)
    # Three folds of the rows in two of three folds: of 5 rows 3 are left, of 4 only 2.
    few, enough = (rows.take(np.sort(np.r_[positive[:n], negative])) for n in (4, 5))

    with pytest.raises(DataError, match=r"has 4 train rows; nested .* 3 folds needs 5 or more"):
        cross_validate(quick, quick.candidates[0], few, store=store, dataset="few")
    assert not store.candidates.exists()
    assert cross_validate(quick, quick.candidates[0], enough, store=store, dataset="enough")
