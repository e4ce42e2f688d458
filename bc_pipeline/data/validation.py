"""Expectation suites run on tables: the only file that imports Great Expectations.

Each validation uses an in-memory context of the library with one suite and one table, and
converts its results to a document, sentences and Data Docs. Results have counts and aggregates,
never the values of rows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.data_docs import Section, escape_strings, publish_validation
from bc_pipeline.data.failed_expectations import FailedExpectation, can_check
from bc_pipeline.data.suite_result import (
    SuiteResult,
    ValidationDocument,
    log_validation,
    require_passed,
    store_validation,
    summarize_results,
)
from bc_pipeline.data.suites import (
    Purpose,
    SuiteFile,
    add_rule_columns,
    frame_digest,
    read_suite,
)
from bc_pipeline.errors import SuiteBroken
from bc_pipeline.problems.base import Problem

if TYPE_CHECKING:
    import pandas as pd

# Counts and aggregates only: the default would list values of single rows.
_RESULT_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 0}
# Added to each expectation, because results come in another order.
_POSITION = "position"


def validate(
    problem: Problem,
    purpose: Purpose,
    frame: pd.DataFrame,
    *,
    store: Store,
    expectations_dir: Path,
    docs: bool = True,
) -> ValidationDocument:
    """Check a table against the problem's suite for a purpose, and store the result.

    Parameters
    ----------
    frame : DataFrame
        With any columns and types; `build_frame` makes a valid one.
    docs : bool
        Whether to add the result to the Data Docs.

    Returns
    -------
    ValidationDocument
        As stored, including failed expectations that only warn.

    Raises
    ------
    ExpectationsFailed
        Lists every failed critical expectation; raised after the result was stored.
    SuiteBroken
        Where the suite's file is invalid.
    """
    started = time.monotonic()
    suite = read_suite(problem, purpose, expectations_dir)
    result = run_suite(problem, suite, frame)
    validation = hashlib.sha256(f"{suite.sha256} {frame_digest(frame)}".encode()).hexdigest()[:16]
    results, page = store.validation_results(validation), store.validation_page(validation)
    report = page if docs or page.is_file() else results
    document = store_validation(store, suite, validation, len(frame), result, report)
    if docs:
        publish_result(store, suite, document, result)
    log_validation(document, started)
    require_passed(document, suite, report)
    return document


def publish_result(
    store: Store, suite: SuiteFile, document: ValidationDocument, result: SuiteResult
) -> None:
    """Add a stored result to the Data Docs."""
    publish_validation(
        store, document, _result_sections(suite, result), _suite_sections(suite), suite.notes
    )


def run_suite(problem: Problem, suite: SuiteFile, frame: pd.DataFrame) -> SuiteResult:
    """Run a suite on a table; failures are returned, not raised, and nothing is stored.

    Parameters
    ----------
    frame : DataFrame
        With any columns and types; `build_frame` makes a valid one.

    Raises
    ------
    SuiteBroken
        Where an expectation is of unknown type, does not load, or was not evaluated.
    """
    # Expectations need unique names: only the first column of each name is checked.
    repeated = frame.columns.duplicated()
    names = sorted({str(name) for name in frame.columns[repeated]})
    results = _run(suite, add_rule_columns(frame.loc[:, ~repeated], problem.schema))
    summary = summarize_results(results)
    failed = tuple(
        FailedExpectation("duplicate_column", (name,), f"columns: {name} occurs more than once")
        for name in names
    )
    return replace(summary, failed=failed + summary.failed)


@cache
def load_gx() -> Any:
    """Import Great Expectations without its telemetry and its INFO lines."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    name = "great_expectations"
    logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Its imports raise a DeprecationWarning.
        warnings.simplefilter("ignore")
        import great_expectations
    for child in list(logging.root.manager.loggerDict):
        if child.startswith(f"{name}."):
            # Some of its modules set their own level, which would override the one above.
            logging.getLogger(child).setLevel(logging.NOTSET)
    return great_expectations


def _load(suite: SuiteFile) -> list[Any]:
    """The suite's expectations as the library's objects.

    The library's own loader only logs and skips expectations that are unknown or have bad
    arguments.
    """
    gx = load_gx()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    loaded, faults = [], []
    for position, entry in enumerate(suite.declared):
        fields = dict(entry) | {"meta": dict(entry.get("meta") or {}) | {_POSITION: position}}
        label = f"expectation {position + 1} ({entry['type']})"
        try:
            loaded.append(ExpectationConfiguration(**fields).to_domain_obj())
        except gx.exceptions.ExpectationNotFoundError:
            faults.append(f"{label} is of no known type")
        except (gx.exceptions.GreatExpectationsError, TypeError, ValueError) as error:
            faults.append(f"{label} does not load: {' '.join(str(error).split())}")
    if not faults and len(loaded) != len(suite.declared):
        faults.append(f"{len(loaded)} of {len(suite.declared)} expectations were loaded")
    if faults:
        raise SuiteBroken(f"Suite {suite.name} is broken: {'; '.join(faults)}.", suite=suite.name)
    return loaded


def _run(suite: SuiteFile, frame: pd.DataFrame) -> tuple[dict[str, Any], ...]:
    """The result of each expectation, in the suite's order.

    Exceptions of expectations are left out, because their texts may quote values.
    """
    gx = load_gx()
    results: dict[int, Any] = {
        position: {"success": False, "result": {}}
        for position, entry in enumerate(suite.declared)
        if not can_check(entry["type"], entry["kwargs"], frame)
    }
    expectations = [e for position, e in enumerate(_load(suite)) if position not in results]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas(suite.problem)
        .add_dataframe_asset(suite.purpose)
        .add_batch_definition_whole_dataframe("rows")
        .get_batch(batch_parameters={"dataframe": frame})
    )
    with warnings.catch_warnings():
        # It warns about columns of nulls or of one value; the results report those.
        warnings.simplefilter("ignore")
        validation = batch.validate(
            gx.ExpectationSuite(name=suite.name, expectations=expectations),
            result_format=_RESULT_FORMAT,
        )
    for result in validation.results:
        results[result.expectation_config.meta[_POSITION]] = {
            "success": bool(result.success),
            "result": _to_json(result.result),
        }
    if sorted(results) != list(range(len(suite.declared))):
        raise SuiteBroken(
            f"{len(results)} of the {len(suite.declared)} expectations of suite {suite.name} "
            "were evaluated.",
            suite=suite.name,
        )
    return tuple(
        {
            "type": entry["type"],
            "kwargs": entry["kwargs"],
            "severity": entry.get("severity", "critical"),
            **results[position],
        }
        for position, entry in enumerate(suite.declared)
    )


def _to_json(result: Any) -> Any:
    """JSON values of a result that may hold numpy's; NaN and infinity become null."""
    text = json.dumps(result, default=lambda value: getattr(value, "item", value.__str__)())
    return json.loads(text, parse_constant=lambda _: None)


def _suite_sections(suite: SuiteFile) -> list[Section]:
    from great_expectations.render.renderer import ExpectationSuitePageRenderer

    loaded = load_gx().ExpectationSuite(name=suite.name, expectations=_load(suite))
    return _sections(ExpectationSuitePageRenderer().render(loaded))


def _result_sections(suite: SuiteFile, result: SuiteResult) -> list[Section]:
    from great_expectations.core import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    # Built from JSON values: the renderer fails on numpy's numbers, and the library's own object
    # also holds exceptions and times.
    validation = ExpectationSuiteValidationResult(
        success=result.passed,
        results=[
            ExpectationValidationResult(
                success=entry["success"],
                expectation_config=expectation.configuration,
                result=escape_strings(entry["result"]),
            )
            for expectation, entry in zip(_load(suite), result.results, strict=True)
        ],
        suite_name=suite.name,
        meta={},
    )
    return _sections(ValidationResultsPageRenderer().render(validation))


def _sections(document: Any) -> list[Section]:
    """Render all sections but the overview, which the page replaces."""
    from great_expectations.render.view import DefaultJinjaSectionView

    view = DefaultJinjaSectionView()
    return [
        Section(
            section["section_name"],
            view.render({"section": section, "section_loop": {"index": number}}),
        )
        for number, section in enumerate(document.to_json_dict()["sections"][1:], start=1)
    ]
