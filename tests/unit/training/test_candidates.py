from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from bc_pipeline.artifacts.files import encode_record, read_record
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import (
    ArtifactCorrupt,
    DegenerateModel,
    EvidenceMismatch,
    NotReproducible,
    NotStored,
)
from bc_pipeline.problems.base import Candidate, Problem
from bc_pipeline.training import results
from bc_pipeline.training.candidates import CandidateResult, cross_validate, load_result
from bc_pipeline.training.folds import assign_folds
from bc_pipeline.training.results import CandidateRecord, store_result

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Rows

DATASET = "0123456789abcdef"
MakeFake = Callable[[Callable[[np.ndarray], np.ndarray]], Candidate]


def run(
    problem: Problem, candidate: Candidate, rows: Rows, store: Store, **options: Any
) -> CandidateResult:
    return cross_validate(
        problem,
        candidate,
        rows.keys,
        rows.values,
        rows.positive,
        store=store,
        dataset=DATASET,
        **options,
    )


def only_folder(store: Store) -> Path:
    (folder,) = store.candidates.iterdir()
    return folder


def test_each_probability_comes_from_a_fit_that_had_not_seen_the_row(
    quick: Problem, rows: Rows, store: Store
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
    quick: Problem, rows: Rows, store: Store
) -> None:
    result = run(quick, quick.candidate("logistic"), rows, store)

    calls = result.probability > 0.5
    metrics = result.record.metrics
    assert metrics["brier"] == pytest.approx(result.losses.mean())
    assert metrics["sensitivity"] == pytest.approx(calls[:, rows.positive == 1].mean())
    assert metrics["specificity"] == pytest.approx((~calls)[:, rows.positive == 0].mean())
    assert 0.95 < metrics["roc_auc"] <= 1.0
    np.testing.assert_allclose(result.pooled, result.probability.mean(axis=0))


def test_the_order_of_the_rows_does_not_matter(quick: Problem, rows: Rows, store: Store) -> None:
    order = np.random.default_rng(2).permutation(len(rows.keys))
    shuffled = replace(
        rows,
        keys=tuple(rows.keys[row] for row in order),
        values=rows.values[order],
        positive=rows.positive[order],
    )
    other = Store(store.home / "other", store.problem)

    straight = run(quick, quick.candidate("logistic"), rows, store)
    result = run(quick, quick.candidate("logistic"), shuffled, other)

    assert result.record == straight.record
    assert result.keys == straight.keys == rows.keys


def test_the_second_call_reads_what_the_first_stored(
    quick: Problem, rows: Rows, store: Store
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

    assert fits == [5] * 6
    assert [line["repeat"] for line in logs] == [False, True]
    assert second.record == first.record
    np.testing.assert_array_equal(second.probability, first.probability)
    np.testing.assert_array_equal(second.positive, rows.positive)
    assert load_result(store, quick, DATASET, candidate).record == first.record


def test_the_same_inputs_give_the_same_bytes(quick: Problem, rows: Rows, store: Store) -> None:
    other = Store(store.home / "other", store.problem)
    for place in (store, other):
        run(quick, quick.candidate("logistic"), rows, place)

    one, two = only_folder(store), only_folder(other)
    assert one.name == two.name
    assert {file.name: file.read_bytes() for file in one.iterdir()} == {
        file.name: file.read_bytes() for file in two.iterdir()
    }


def test_progress_counts_every_fit(quick: Problem, rows: Rows, store: Store) -> None:
    seen: list[tuple[int, int]] = []
    run(
        quick,
        quick.candidate("logistic"),
        rows,
        store,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 6) for done in range(1, 7)]


def test_each_input_has_a_result_of_its_own(
    quick: Problem, rows: Rows, store: Store, monkeypatch: pytest.MonkeyPatch
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


def test_damaged_probabilities_are_found(quick: Problem, rows: Rows, store: Store) -> None:
    run(quick, quick.candidate("logistic"), rows, store)
    file = only_folder(store) / results.PROBABILITY_FILE
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)

    with pytest.raises(ArtifactCorrupt, match="differs from its digest"):
        run(quick, quick.candidate("logistic"), rows, store)
    file.unlink()
    with pytest.raises(ArtifactCorrupt, match="lost its probabilities"):
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
def test_a_record_that_its_probabilities_do_not_bear_out_is_found(
    change: dict[str, Any], quick: Problem, rows: Rows, store: Store
) -> None:
    run(quick, quick.candidate("logistic"), rows, store)
    file = only_folder(store) / results.RESULT_FILE
    record = read_record(file, CandidateRecord)
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    file.write_bytes(encode_record(CandidateRecord(**(fields | change))))

    with pytest.raises(ArtifactCorrupt, match="does not follow"):
        load_result(store, quick, DATASET, quick.candidate("logistic"))


def test_a_record_that_is_no_record_is_found(quick: Problem, rows: Rows, store: Store) -> None:
    run(quick, quick.candidate("logistic"), rows, store)
    (only_folder(store) / results.RESULT_FILE).write_bytes(b"{}")

    with pytest.raises(ArtifactCorrupt):
        load_result(store, quick, DATASET, quick.candidate("logistic"))


def test_a_stored_result_is_not_handed_out_for_other_rows(
    quick: Problem, rows: Rows, store: Store
) -> None:
    run(quick, quick.candidate("logistic"), rows, store)
    flipped = replace(rows, positive=1 - rows.positive)

    with pytest.raises(EvidenceMismatch, match="other rows"):
        run(quick, quick.candidate("logistic"), flipped, store)


def test_losing_a_race_to_an_equal_result_is_fine(quick: Problem, rows: Rows, store: Store) -> None:
    candidate = quick.candidate("logistic")
    first = run(quick, candidate, rows, store)

    again = store_result(
        store, quick, DATASET, candidate, first.keys, first.positive, first.probability
    )

    assert again.record == first.record
    assert len(list(only_folder(store).parent.iterdir())) == 1


def test_losing_a_race_to_another_result_is_not(quick: Problem, rows: Rows, store: Store) -> None:
    candidate = quick.candidate("logistic")
    first = run(quick, candidate, rows, store)

    with pytest.raises(NotReproducible):
        store_result(
            store, quick, DATASET, candidate, first.keys, first.positive, first.probability / 2
        )
    assert load_result(store, quick, DATASET, candidate).record == first.record


@pytest.mark.parametrize("value", [0.5, np.nan], ids=["constant", "nan"])
def test_a_degenerate_candidate_leaves_nothing_behind(
    value: float, fake: MakeFake, quick: Problem, rows: Rows, store: Store
) -> None:
    with pytest.raises(DegenerateModel):
        run(quick, fake(lambda values: np.full(len(values), value)), rows, store)
    assert not store.candidates.exists()
