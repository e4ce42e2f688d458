"""Corrupt each column of the public data in each way and print what the suites catch.

Corruptions that touch one column are put on all columns at once where that is fair: a
column counts as caught only if an expectation about that column alone failed, and such
an expectation cannot see the others. Swaps are judged the same way first, in rounds that
pair every column with every other; a swap that no such expectation names is then done
alone and counts as caught if anything fails.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bc_pipeline.data.rows import row_keys
from bc_pipeline.data.suite_result import SuiteResult
from bc_pipeline.data.suites import PURPOSES, SuiteFile, build_frame, read_suite
from bc_pipeline.data.validation import run_suite
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem, Reference

if TYPE_CHECKING:
    import pandas as pd

EXPECTATIONS = Path(__file__).resolve().parents[1] / "expectations"
Corruption = Callable[["pd.DataFrame", str], "pd.DataFrame"]
SEED = 20240229


def _some_rows(frame: pd.DataFrame, share: float) -> np.ndarray:
    """One or more rows, always the same."""
    rng = np.random.default_rng(SEED)
    return np.sort(rng.choice(len(frame), max(1, round(share * len(frame))), replace=False))


def _with_column(frame: pd.DataFrame, name: str, column: object) -> pd.DataFrame:
    return frame.assign(**{name: column})


def nulls(share: float) -> Corruption:
    def corrupt(frame: pd.DataFrame, name: str) -> pd.DataFrame:
        column = frame[name].to_numpy(copy=True)
        column[_some_rows(frame, share)] = np.nan
        return _with_column(frame, name, column)

    return corrupt


def times(factor: float, share: float = 1.0) -> Corruption:
    def corrupt(frame: pd.DataFrame, name: str) -> pd.DataFrame:
        column = frame[name].to_numpy(copy=True)
        # Zero times anything is zero: only other values are corrupted.
        rows = np.flatnonzero(column)[: max(1, round(share * len(frame)))]
        column[rows] *= factor
        return _with_column(frame, name, column)

    return corrupt


def strings(share: float) -> Corruption:
    def corrupt(frame: pd.DataFrame, name: str) -> pd.DataFrame:
        column = frame[name].astype(object).to_numpy(copy=True)
        rows = _some_rows(frame, share)
        column[rows] = [f"{value} px" for value in column[rows]]
        return _with_column(frame, name, column)

    return corrupt


def constant(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return _with_column(frame, name, float(frame[name].median()))


def swapped(frame: pd.DataFrame, name: str, other: str) -> pd.DataFrame:
    return frame.assign(**{name: frame[other], other: frame[name]})


def dropped(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame.drop(columns=name)


def extra(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return _with_column(frame, f"{name}_copy", frame[name])


# Every suite must catch these in every column.
EVERY_SUITE: dict[str, Corruption] = {
    "null in one row": nulls(0),
    "null in a tenth of the rows": nulls(0.1),
    "null everywhere": nulls(1),
    "negative": times(-1),
    "negative in one row": times(-1, share=0),
    "string in one row": strings(0),
    "string everywhere": strings(1),
    "dropped": dropped,
    "extra": extra,
}
# These need many rows to be caught: the labelled suite must catch them in every column.
LABELLED_SUITE: dict[str, Corruption] = {
    "x 10": times(10),
    "/ 10": times(0.1),
    "x 2.54": times(2.54),
    "constant": constant,
}
# Shown in the table only; no suite promises to catch them.
SHOWN: dict[str, Corruption] = {
    "x 1.15": times(1.15),
    "x 10 in one row": times(10, share=0),
}


def labels_corrupted(problem: Problem, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Faults of labels, keys and numbers of rows, each as a whole table."""
    label = problem.labels.column
    codes = frame[label].to_numpy()
    few, third = _some_rows(frame, 0.01), _some_rows(frame, 1 / 3)
    flipped, two = codes.copy(), codes.copy()
    null, word = codes.astype(np.float64), codes.astype(object)
    flipped[third] = 1 - flipped[third]
    two[few], null[few], word[few] = 2, np.nan, problem.labels.negative.name
    return {
        "labels the other way round": _with_column(frame, label, 1 - codes),
        "a third of the labels flipped": _with_column(frame, label, flipped),
        "labels shuffled": _with_column(
            frame, label, np.random.default_rng(SEED).permutation(codes)
        ),
        "label 2 in 1 % of the rows": _with_column(frame, label, two),
        "label null in 1 % of the rows": _with_column(frame, label, null),
        "label a word in 1 % of the rows": _with_column(frame, label, word),
        "one class only": _with_column(frame, label, np.int64(problem.labels.negative.code)),
        "label dropped": frame.drop(columns=label),
        "key twice": _with_column(frame, ID_COLUMN, ["same", "same", *frame[ID_COLUMN][2:]]),
        "key null": _with_column(frame, ID_COLUMN, [None, *frame[ID_COLUMN][1:]]),
        "no rows": frame.iloc[:0],
        "99 rows": frame.iloc[:99],
    }


def failing_columns(result: SuiteResult) -> set[str]:
    """Columns that a failed expectation names alone, or as missing or unexpected."""
    return {
        column
        for failure in result.failed
        if len(failure.columns) == 1 or failure.type == "expect_table_columns_to_match_set"
        for column in failure.columns
    }


def caught(
    problem: Problem, suite: SuiteFile, frame: pd.DataFrame, corrupt: Corruption
) -> set[str]:
    """Features whose corruption, put on all of them at once, is caught for each by name."""
    bad = frame
    for name in problem.schema.names:
        bad = corrupt(bad, name)
    failing = failing_columns(run_suite(problem, suite, bad))
    original = {f"{name}_copy": name for name in problem.schema.names} if corrupt is extra else {}
    failing = {original.get(name, name) for name in failing}
    return failing & set(problem.schema.names)


def rounds(names: tuple[str, ...]) -> Iterator[list[tuple[str, str]]]:
    """Pair all names so that each round holds every name once: a round robin."""
    first, *rest = names
    for _ in rest:
        line = [first, *rest]
        yield [(line[i], line[-1 - i]) for i in range(len(line) // 2)]
        rest = [rest[-1], *rest[:-1]]


def missed_swaps(
    problem: Problem,
    suite: SuiteFile,
    frame: pd.DataFrame,
    pairings: Iterable[Sequence[tuple[str, str]]],
) -> tuple[list[tuple[str, str]], int]:
    """Swap pairs of features, those of one pairing at once.

    Returns
    -------
    missed : list of (str, str)
    alone : int
        How many had to be done alone.
    """
    unnamed: list[tuple[str, str]] = []
    for pairing in pairings:
        bad = frame
        for one, other in pairing:
            bad = swapped(bad, one, other)
        failing = failing_columns(run_suite(problem, suite, bad))
        unnamed += [pair for pair in pairing if not set(pair) & failing]
    missed = [pair for pair in unnamed if run_suite(problem, suite, swapped(frame, *pair)).passed]
    return missed, len(unnamed)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problem", default="wdbc")
    parser.add_argument(
        "--scoring-swaps", action="store_true", help="swap all pairs for the scoring suite too"
    )
    arguments = parser.parse_args()
    problem = get_problem(arguments.problem)
    reference: Reference = problem.load_reference()
    keys = row_keys(reference.values)
    suites = {purpose: read_suite(problem, purpose, EXPECTATIONS) for purpose in PURPOSES}
    frames = {
        "labelled": build_frame(problem, reference.values, keys, reference.codes),
        "scoring": build_frame(problem, reference.values, keys, None),
    }
    total = len(problem.schema.names)
    started = time.monotonic()
    lost = 0

    def line(label: str, *cells: str) -> None:
        print(f"{label:34s}" + "".join(f"{cell:>12s}" for cell in cells), flush=True)

    print(f"{len(keys)} rows, {total} columns: in how many each corruption is caught\n")
    line("corruption", *PURPOSES)
    for label, corrupt in (EVERY_SUITE | LABELLED_SUITE | SHOWN).items():
        counts = {
            purpose: len(caught(problem, suites[purpose], frames[purpose], corrupt))
            for purpose in PURPOSES
        }
        promised = {
            "labelled": label not in SHOWN,
            "scoring": label in EVERY_SUITE,
        }
        lost += sum(total - counts[purpose] for purpose in PURPOSES if promised[purpose])
        line(label, *(f"{counts[purpose]}/{total}" for purpose in PURPOSES))
    pairings = list(rounds(problem.schema.names))
    pairs = sum(map(len, pairings))
    for purpose in PURPOSES if arguments.scoring_swaps else PURPOSES[:1]:
        missed, alone = missed_swaps(problem, suites[purpose], frames[purpose], pairings)
        lost += len(missed) if purpose == "labelled" else 0
        line(f"two columns swapped, {purpose}", f"{pairs - len(missed)}/{pairs}")
        listed = ", ".join(f"{one} with {other}" for one, other in missed)
        print(f"  {alone} of them done alone" + (f"; missed: {listed}" if missed else ""))
    for label, frame in labels_corrupted(problem, frames["labelled"]).items():
        seen = not run_suite(problem, suites["labelled"], frame).passed
        lost += not seen
        line(label, "caught" if seen else "MISSED")
    print(f"\n{lost} promised corruptions missed; {time.monotonic() - started:.0f} s")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
