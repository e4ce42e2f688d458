"""Expectation suites run on tables: the only file that imports Great Expectations.

The library is started in memory for each validation and told nothing but the suite and
the table; what it found is turned into a record, words and Data Docs at once. No row's
value leaves it: results carry counts and aggregates.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.findings import Finding, checkable
from bc_pipeline.data.outcomes import Outcome, keep, outcome_of, require_passed
from bc_pipeline.data.reports import Section, ValidationRecord, escaped, publish
from bc_pipeline.data.suites import (
    Purpose,
    SuiteFile,
    read_suite,
    table,
    table_digest,
    with_rule_columns,
)
from bc_pipeline.errors import SuiteBroken
from bc_pipeline.problems.base import Problem

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["Outcome", "ValidationRecord", "check", "library", "validate", "validate_table"]

# Counts and aggregates only: the default would list values of single rows.
_RESULT_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 0}
# Ours, on an expectation while it runs: results come back in another order.
_POSITION = "position"


def validate(
    problem: Problem,
    purpose: Purpose,
    *,
    values: np.ndarray,
    keys: Sequence[str],
    codes: np.ndarray | None,
    store: Store,
    expectations_dir: Path,
    docs: bool = True,
) -> ValidationRecord:
    """Check rows against the problem's suite for a purpose, and keep what was found.

    Parameters
    ----------
    values : array of float64, shape (n, n_features)
        In schema order.
    keys : sequence of str, length n
    codes : array of int, shape (n,), or None
        Outside label codes; None for scoring.
    docs : bool
        Whether to add the result to the Data Docs.

    Returns
    -------
    ValidationRecord
        As stored. Failed expectations that only warn are in it.

    Raises
    ------
    ExpectationsFailed
        Naming every failed critical expectation, after the record was stored.
    SuiteBroken
        Where the suite's file is not what it declares.
    """
    return validate_table(
        problem,
        purpose,
        table(problem, values, keys, codes),
        store=store,
        expectations_dir=expectations_dir,
        docs=docs,
    )


def validate_table(
    problem: Problem,
    purpose: Purpose,
    frame: pd.DataFrame,
    *,
    store: Store,
    expectations_dir: Path,
    docs: bool = True,
) -> ValidationRecord:
    """`validate` for a table of whatever columns and types.

    Raises
    ------
    ExpectationsFailed
    SuiteBroken
    """
    import structlog

    started = time.monotonic()
    suite = read_suite(problem, purpose, expectations_dir)
    outcome = check(problem, suite, frame)
    validation = hashlib.sha256(f"{suite.sha256} {table_digest(frame)}".encode()).hexdigest()[:16]
    results, page = store.validation_results(validation), store.validation_page(validation)
    report = page if docs or page.is_file() else results
    record = keep(store, suite, validation, len(frame), outcome, report)
    if docs:
        publish(
            store, record, _result_sections(suite, outcome), _suite_sections(suite), suite.notes
        )
    structlog.get_logger().info(
        "validated",
        problem=problem.name,
        purpose=purpose,
        validation=validation,
        rows=record.rows,
        expectations=record.expectations,
        failed=len(record.failed),
        warnings=len(record.warnings),
        seconds=round(time.monotonic() - started, 3),
    )
    require_passed(record, suite, report)
    return record


def check(problem: Problem, suite: SuiteFile, frame: pd.DataFrame) -> Outcome:
    """Run a suite on a table; nothing is stored and a failure is no error.

    Parameters
    ----------
    frame : DataFrame
        Of whatever columns and types; `table` makes the one the suites are written for.

    Raises
    ------
    SuiteBroken
        Where an expectation is of no known type, does not load as declared, or was not
        evaluated.
    """
    # A name given twice cannot be looked up; the first column stands for it.
    again = frame.columns.duplicated()
    twice = sorted({str(name) for name in frame.columns[again]})
    results = _run(suite, with_rule_columns(frame.loc[:, ~again], problem.schema))
    outcome = outcome_of(results)
    failed = tuple(
        Finding("duplicate_column", (name,), f"columns: {name} is there more than once")
        for name in twice
    )
    return replace(outcome, failed=failed + outcome.failed)


@cache
def library() -> Any:
    """Import Great Expectations quietly: no telemetry, no flood of INFO lines."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    name = "great_expectations"
    logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # It imports a module that Python deprecates.
        warnings.simplefilter("ignore")
        import great_expectations
    for child in list(logging.root.manager.loggerDict):
        if child.startswith(f"{name}."):
            # A few of its modules set a level of their own.
            logging.getLogger(child).setLevel(logging.NOTSET)
    return great_expectations


def _load(suite: SuiteFile) -> list[Any]:
    """The suite's expectations as the library's objects.

    Its own loader would drop one of unknown type or with bad arguments, log that, and pass
    with the rest.
    """
    gx = library()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    loaded, faults = [], []
    for position, entry in enumerate(suite.declared):
        fields = dict(entry) | {"meta": dict(entry.get("meta") or {}) | {_POSITION: position}}
        place = f"expectation {position + 1} ({entry['type']})"
        try:
            loaded.append(ExpectationConfiguration(**fields).to_domain_obj())
        except gx.exceptions.ExpectationNotFoundError:
            faults.append(f"{place} is of no known type")
        except (gx.exceptions.GreatExpectationsError, TypeError, ValueError) as error:
            faults.append(f"{place} does not load: {' '.join(str(error).split())}")
    if not faults and len(loaded) != len(suite.declared):
        faults.append(f"{len(loaded)} of {len(suite.declared)} expectations were loaded")
    if faults:
        raise SuiteBroken(f"Suite {suite.name} is broken: {'; '.join(faults)}.", suite=suite.name)
    return loaded


def _run(suite: SuiteFile, frame: pd.DataFrame) -> tuple[dict[str, Any], ...]:
    """What was found, one entry for each declared expectation, in the suite's order.

    What an expectation raised is left out: its words may quote a value.
    """
    gx = library()
    found: dict[int, Any] = {
        position: {"success": False, "result": {}}
        for position, entry in enumerate(suite.declared)
        if not checkable(entry["type"], entry["kwargs"], frame)
    }
    asked = [e for position, e in enumerate(_load(suite)) if position not in found]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas(suite.problem)
        .add_dataframe_asset(suite.purpose)
        .add_batch_definition_whole_dataframe("rows")
        .get_batch(batch_parameters={"dataframe": frame})
    )
    with warnings.catch_warnings():
        # Columns of nulls or of one value are what it is here to see.
        warnings.simplefilter("ignore")
        answer = batch.validate(
            gx.ExpectationSuite(name=suite.name, expectations=asked), result_format=_RESULT_FORMAT
        )
    for result in answer.results:
        found[result.expectation_config.meta[_POSITION]] = {
            "success": bool(result.success),
            "result": _plain(result.result),
        }
    if sorted(found) != list(range(len(suite.declared))):
        raise SuiteBroken(
            f"{len(found)} of the {len(suite.declared)} expectations of suite {suite.name} "
            "were evaluated.",
            suite=suite.name,
        )
    return tuple(
        {
            "type": entry["type"],
            "kwargs": entry["kwargs"],
            "severity": entry.get("severity", "critical"),
            **found[position],
        }
        for position, entry in enumerate(suite.declared)
    )


def _plain(result: Any) -> Any:
    """JSON values of what the library leaves as numpy's; null for what is no number."""
    text = json.dumps(result, default=lambda value: getattr(value, "item", value.__str__)())
    return json.loads(text, parse_constant=lambda _: None)


def _suite_sections(suite: SuiteFile) -> list[Section]:
    from great_expectations.render.renderer import ExpectationSuitePageRenderer

    loaded = library().ExpectationSuite(name=suite.name, expectations=_load(suite))
    return _sections(ExpectationSuitePageRenderer().render(loaded))


def _result_sections(suite: SuiteFile, outcome: Outcome) -> list[Section]:
    from great_expectations.core import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    # Made anew from plain values: its renderer chokes on numpy's numbers, and what was
    # raised or when it ran has no place on the page.
    found = ExpectationSuiteValidationResult(
        success=outcome.passed,
        results=[
            ExpectationValidationResult(
                success=result["success"],
                expectation_config=expectation.configuration,
                result=escaped(result["result"]),
            )
            for expectation, result in zip(_load(suite), outcome.results, strict=True)
        ],
        suite_name=suite.name,
        meta={},
    )
    return _sections(ValidationResultsPageRenderer().render(found))


def _sections(document: Any) -> list[Section]:
    """Render all but the overview, which the page says in its own way."""
    from great_expectations.render.view import DefaultJinjaSectionView

    view = DefaultJinjaSectionView()
    return [
        Section(
            section["section_name"],
            view.render({"section": section, "section_loop": {"index": number}}),
        )
        for number, section in enumerate(document.to_json_dict()["sections"][1:], start=1)
    ]
