from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bc_pipeline.artifacts.files import read_document
from bc_pipeline.artifacts.signed_document import require_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data import validation
from bc_pipeline.data.data_docs import ValidationDocument
from bc_pipeline.data.suites import build_frame, read_suite
from bc_pipeline.data.validation import run_suite, validate
from bc_pipeline.errors import ExpectationsFailed, SuiteBroken
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import Feature, FeatureSchema
from bc_pipeline.settings import Settings
from bc_pipeline.stack.resigning import list_signed_files
from tests.volumes import new_store

pytestmark = pytest.mark.integration

Run = Callable[..., ValidationDocument]


@pytest.fixture(scope="module")
def toy(wdbc: Problem) -> Problem:
    """A problem of two features: suites of a few expectations run in no time."""
    features = (Feature("size", "mm", 0, 10), Feature("weight", "g", 0, 100))
    return replace(wdbc, name="toy", title="Toy", schema=FeatureSchema(features))


@pytest.fixture
def toy_store(settings: Settings) -> Store:
    return new_store(settings.home, "toy")


def entry(kind: str, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "meta": {}, "severity": severity}


BASE = [
    entry("expect_table_row_count_to_be_between", min_value=2),
    entry("expect_column_values_to_not_be_null", column="size"),
    entry("expect_column_values_to_not_be_null", column="weight"),
    entry("expect_column_values_to_be_between", column="size", min_value=0, max_value=10),
    entry("expect_column_mean_to_be_between", column="weight", min_value=1, max_value=50),
    entry("expect_column_mean_to_be_between", "warning", column="weight", min_value=1, max_value=9),
]


def write_suite(folder: Path, purpose: str, more: tuple[dict[str, Any], ...] = ()) -> Path:
    label = ["diagnosis"] if purpose == "labelled" else []
    columns = entry(
        "expect_table_columns_to_match_set", column_set=["id", "size", "weight", *label]
    )
    path = folder / "toy" / f"{purpose}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {
        "name": f"toy_{purpose}",
        "expectations": [columns, *BASE, *more],
        "notes": ["A <toy>."],
    }
    path.write_text(json.dumps(plain))
    return folder


@pytest.fixture
def run(toy: Problem, toy_store: Store, tmp_path: Path) -> Run:
    """Validate rows of (size, weight) against the toy suite for scoring."""
    folder = write_suite(tmp_path / "suites", "scoring")

    def go(rows: list[tuple[float, float]], **options: Any) -> ValidationDocument:
        return validate(
            toy,
            "scoring",
            build_frame(
                toy,
                np.array(rows, dtype=float).reshape(-1, 2),
                [f"k{number}" for number in range(len(rows))],
                None,
            ),
            store=toy_store,
            expectations_dir=folder,
            **options,
        )

    return go


GOOD = [(1.0, 5.0), (2.0, 6.0)]
HEAVY = [(1.0, 15.0), (2.0, 16.0)]
# Two faults, and values that must not be seen again.
BAD = [(98765.4321, 15.0), (2.0, 34567.8912), (3.0, float("nan"))]


def test_clean_rows_pass_and_the_document_is_stored(run: Run, toy_store: Store) -> None:
    record = run(GOOD)
    assert record.passed
    assert (record.problem, record.purpose, record.rows) == ("toy", "scoring", 2)
    assert (record.expectations, record.failed, record.warnings) == (7, (), ())
    path = toy_store.validation_document(record.validation)
    assert read_document(path, ValidationDocument) == record
    results = json.loads(toy_store.validation_results(record.validation).read_bytes())["results"]
    assert [result["type"] for result in results][1:] == [each["type"] for each in BASE]
    assert all(result["success"] for result in results)
    assert results[5]["result"] == {"observed_value": 5.5}


def test_warnings_are_reported_and_do_not_fail(run: Run) -> None:
    record = run(HEAVY)
    assert record.passed
    assert record.failed == ()
    assert record.warnings == ("weight: mean is 15.5, outside 1 to 9",)


def test_every_failed_expectation_is_in_the_error_and_the_stored_document(
    run: Run, toy_store: Store
) -> None:
    with pytest.raises(ExpectationsFailed) as caught:
        run(BAD)
    failed = (
        "weight: 1 of 3 values are missing",
        "size: 1 of 3 values are outside 0 to 10",
        "weight: mean is 17291.4, outside 1 to 50",
    )
    assert caught.value.failed == failed
    assert caught.value.suite == "toy_scoring"
    assert all(words in str(caught.value) for words in failed)
    (path,) = toy_store.validations.glob("*.json")
    record = read_document(path, ValidationDocument)
    assert not record.passed
    assert record.failed == failed
    assert record.warnings == ("weight: mean is 17291.4, outside 1 to 9",)
    assert caught.value.report == str(toy_store.home / record.report)
    assert (toy_store.home / record.report).is_file()


def test_no_value_of_a_row_is_stored_or_logged(
    run: Run, toy_store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExpectationsFailed) as caught:
        run(BAD)
    written = [
        path.read_text()
        for path in toy_store.home.rglob("*")
        if path.is_file() and path.suffix != ".sig"
    ]
    said = [str(caught.value), *capfd.readouterr()]
    assert len(written) >= 5
    for text in (*written, *said):
        assert "98765" not in text
        assert "34567" not in text


def test_the_same_suite_and_data_give_the_same_bytes(run: Run, toy_store: Store) -> None:
    def files() -> dict[str, bytes]:
        return {
            path.name: path.read_bytes()
            for path in toy_store.data.rglob("*")
            # The index has the time of each page, and the name of its signature its digest.
            if path.is_file() and not path.name.startswith("index.html")
        }

    first, before = run(HEAVY), files()
    assert run(HEAVY) == first
    assert files() == before


def test_other_data_or_another_suite_is_another_validation(run: Run, tmp_path: Path) -> None:
    first = run(GOOD, docs=False).validation
    assert run(HEAVY, docs=False).validation != first
    path = tmp_path / "suites" / "toy" / "scoring.json"
    path.write_text(path.read_text() + "\n")
    assert run(GOOD, docs=False).validation != first


@pytest.mark.parametrize("rows", [[], [(float("nan"), float("nan"))] * 3])
def test_a_table_without_rows_or_with_nulls_only_fails(
    rows: list[tuple[float, float]], run: Run
) -> None:
    with pytest.raises(ExpectationsFailed):
        run(rows, docs=False)


def test_every_fault_of_a_table_of_strings_and_unknown_columns_is_reported(
    toy: Problem, toy_store: Store, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "size": ["1 mm", "2 mm"], "<script>x": [1, 2]})
    frame = pd.concat([frame, frame["id"]], axis=1)
    with pytest.raises(ExpectationsFailed) as caught:
        validate(
            toy,
            "scoring",
            frame,
            store=toy_store,
            expectations_dir=write_suite(tmp_path / "suites", "scoring"),
        )
    assert caught.value.failed == (
        "columns: id occurs more than once",
        "columns: missing weight; unexpected <script>x",
        "weight: could not be checked (column values to not be null)",
        "size: could not be checked (column values to be between)",
        "weight: could not be checked (column mean to be between)",
    )
    page = Path(caught.value.report).read_text()
    assert "&lt;script&gt;x" in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            entry("expect_column_values_to_be_betwen", column="size", min_value=0),
            r"expectation 8 \(expect_column_values_to_be_betwen\) is of no known type",
        ),
        (
            entry("expect_column_values_to_be_between", column="size", minimum=0, max_value=1),
            r"expectation 8 .* does not load: .*minimum extra fields not permitted",
        ),
        (
            entry("expect_column_values_to_be_between", min_value=0),
            r"expectation 8 .* does not load: .*column field required",
        ),
    ],
)
def test_an_expectation_that_does_not_load_breaks_the_suite(
    wrong: dict[str, Any],
    words: str,
    toy: Problem,
    toy_store: Store,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = write_suite(tmp_path / "suites", "scoring", (wrong,))
    frame = pd.DataFrame({"id": ["a", "b"], "size": [1.0, 2.0], "weight": [5.0, 6.0]})
    with pytest.raises(SuiteBroken, match=words):
        validate(toy, "scoring", frame, store=toy_store, expectations_dir=folder)
    assert not toy_store.validations.exists()
    assert caplog.records == []


def test_an_expectation_left_out_by_the_library_breaks_the_suite(
    toy: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = read_suite(toy, "scoring", write_suite(tmp_path / "suites", "scoring"))
    frame = build_frame(toy, np.array(GOOD), ["a", "b"], None)
    suite_class = validation.load_gx().ExpectationSuite

    def forgetful(name: str, expectations: list[Any]) -> Any:
        return suite_class(name=name, expectations=expectations[:-1])

    monkeypatch.setattr(validation.load_gx(), "ExpectationSuite", forgetful)
    with pytest.raises(SuiteBroken, match=r"6 of the 7 expectations .* were evaluated"):
        run_suite(toy, suite, frame)


def test_data_docs_show_every_validation_and_load_nothing_from_the_network(
    run: Run, toy: Problem, toy_store: Store, tmp_path: Path
) -> None:
    passed = run(GOOD)
    with pytest.raises(ExpectationsFailed) as caught:
        run(BAD)
    labelled = validate(
        toy,
        "labelled",
        build_frame(toy, np.array(GOOD), ["a", "b"], np.array([0, 1])),
        store=toy_store,
        expectations_dir=write_suite(tmp_path / "suites", "labelled"),
    )
    index = toy_store.data_docs / "index.html"
    links = re.findall(r'href="([^"#]+)"', index.read_text())
    assert {link for link in links if link.startswith("validations/")} == {
        f"validations/{name}.html"
        for name in (passed.validation, labelled.validation, Path(caught.value.report).stem)
    }
    pages = list(toy_store.data_docs.rglob("*.html"))
    assert len(pages) == 6
    for page in pages:
        require_signed(toy_store, page)
        assert page in list_signed_files(toy_store)
        assert len(list(page.parent.glob(f"{page.name}.*.sig"))) <= 2
        text = page.read_text()
        assert "//" not in text
        assert "<script" not in text
        for link in re.findall(r'href="([^"#]+)"', text):
            assert (page.parent / link).is_file(), link
        for anchor in re.findall(r'href="#([^"]+)"', text):
            assert f'id="{anchor}"' in text
    report = Path(caught.value.report).read_text()
    assert "size: 1 of 3 values are outside 0 to 10" in report
    assert "fa-times" in report
    assert "A &lt;toy&gt;." in toy_store.suite_page("scoring").read_text()


def test_without_docs_the_report_is_the_results(run: Run, toy_store: Store) -> None:
    record = run(GOOD, docs=False)
    assert not toy_store.data_docs.exists()
    assert toy_store.home / record.report == toy_store.validation_results(record.validation)


def test_labelled_and_scoring_rows_of_wdbc_pass(
    wdbc: Problem,
    store: Store,
    reference: tuple[np.ndarray, np.ndarray],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    values, codes = reference
    keys = [f"k{number}" for number in range(len(values))]
    where = Settings().expectations_dir
    labelled = validate(
        wdbc,
        "labelled",
        build_frame(wdbc, values, keys, codes),
        store=store,
        expectations_dir=where,
    )
    scoring = validate(
        wdbc,
        "scoring",
        build_frame(wdbc, values[:1], keys[:1], None),
        store=store,
        expectations_dir=where,
    )
    assert (labelled.passed, labelled.rows, labelled.warnings) == (True, 569, ())
    assert (scoring.passed, scoring.rows, scoring.warnings) == (True, 1, ())
    # No progress bar, and no complaint of the page's renderer.
    assert caplog.records == []
    assert capfd.readouterr().err == ""


def test_the_library_is_quiet_and_loaded_only_when_used() -> None:
    code = """
import sys, logging
import bc_pipeline.data.validation as validation
assert not {"great_expectations", "pandas", "sklearn"} & set(sys.modules), "loaded at import"
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
validation.load_gx()
import os
assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "great_expectations" not in done.stderr


def test_no_logger_of_the_library_is_louder_than_a_warning() -> None:
    validation.load_gx()
    names = [name for name in logging.root.manager.loggerDict if name.startswith("great_expect")]
    assert len(names) > 20
    assert all(logging.getLogger(name).getEffectiveLevel() >= logging.WARNING for name in names)
