"""The scoring suite on the rows of a file as they stream, in bounded memory.

What counts can judge is counted column by column (`bc_pipeline.data.suite_counts`). Great
Expectations is imported only where a suite has other expectations: it judges these on portions of
the rows, one after the other.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import structlog

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.countable_expectations import is_countable
from bc_pipeline.data.suite_counts import SuiteCounter
from bc_pipeline.data.suite_result import (
    SuiteResult,
    ValidationDocument,
    log_validation,
    require_passed,
    scoring_validation_id,
    store_validation,
    summarize_results,
)
from bc_pipeline.data.suites import SuiteFile, build_frame
from bc_pipeline.problems import get_problem

# A call of the library costs .75 s and its memory grows with the rows.
PORTION_ROWS = 30_000


class StreamedSuite:
    """Judges the rows of one file.

    Attributes
    ----------
    rows : int
        So far.
    """

    def __init__(self, suite: SuiteFile) -> None:
        self._suite = suite
        self._started = time.monotonic()
        self._counted = [is_countable(entry) for entry in suite.declared]
        self.start_again()
        others = _part(suite, self._counted, countable=False).declared
        if others:
            structlog.get_logger().info(
                "expectations_in_library",
                suite=suite.name,
                expectations=[entry["type"] for entry in others],
                portion_rows=PORTION_ROWS,
            )

    def start_again(self) -> None:
        """Forget all rows: the file is read anew."""
        self._counter = SuiteCounter(_part(self._suite, self._counted, countable=True))
        self._library = _LibraryPart(_part(self._suite, self._counted, countable=False))

    @property
    def rows(self) -> int:
        return self._counter.rows

    def __call__(self, names: Sequence[str], values: np.ndarray) -> None:
        """Judge more rows; parameters as of `SuiteCounter`."""
        self._counter(names, values)
        self._library(names, values)

    def result(self) -> SuiteResult:
        """The result on all rows so far, in the suite's order."""
        parts = iter(self._counter.suite_result().results), iter(self._library.results())
        return summarize_results(tuple(next(parts[not each]) for each in self._counted))

    def conclude(self, store: Store, version: str, source_sha256: str) -> ValidationDocument:
        """Store the result; where an expectation failed, also as a page of the Data Docs.

        Parameters
        ----------
        version : str
            Of the model that scores the rows.
        source_sha256 : str
            Of the file.

        Raises
        ------
        ExpectationsFailed
            Lists every failed critical expectation; raised after the result was stored.
        SuiteBroken
            Where Great Expectations does not take an expectation.
        """
        suite, result = self._suite, self.result()
        validation = scoring_validation_id(suite, version, source_sha256)
        shown = bool(result.failed or result.warnings)
        page = store.validation_page(validation)
        report = page if shown else store.validation_results(validation)
        document = store_validation(store, suite, validation, self.rows, result, report)
        if shown:
            from bc_pipeline.data.validation import publish_result

            publish_result(store, suite, document, result)
        log_validation(document, self._started)
        require_passed(document, suite, report)
        return document


def _part(suite: SuiteFile, counted: Sequence[bool], *, countable: bool) -> SuiteFile:
    """The suite with its countable expectations alone, or with the others."""
    declared = zip(suite.declared, counted, strict=True)
    return replace(suite, declared=tuple(entry for entry, each in declared if each is countable))


class _LibraryPart:
    """Expectations that Great Expectations judges, on portions of `PORTION_ROWS` rows.

    Of each expectation the result is that of the first portion that fails it, else of the last.
    """

    def __init__(self, suite: SuiteFile) -> None:
        self._suite = suite
        self._names: list[str] = []
        self._values: list[np.ndarray] = []
        self._results: tuple[dict[str, Any], ...] = ()

    def __call__(self, names: Sequence[str], values: np.ndarray) -> None:
        if not self._suite.declared:
            return
        self._names += names
        self._values.append(values)
        if len(self._names) >= PORTION_ROWS:
            self._judge()

    def results(self) -> tuple[dict[str, Any], ...]:
        if self._names:
            self._judge()
        return self._results

    def _judge(self) -> None:
        from bc_pipeline.data.validation import run_suite

        problem = get_problem(self._suite.problem)
        frame = build_frame(problem, np.concatenate(self._values), self._names, None)
        self._names, self._values = [], []
        results = run_suite(problem, self._suite, frame).results
        earlier = self._results or results
        self._results = tuple(
            one if not one["success"] else other
            for one, other in zip(earlier, results, strict=True)
        )
        # Validations leave reference cycles with whole columns in them: over a large file
        # hundreds of megabytes add up before the collector runs by itself.
        gc.collect()
