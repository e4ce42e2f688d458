"""Corrupt the public rows in 40 ways, as a whole and in 57 rows, and print what catches each.

Asked in the order in which a landed file meets them: the rules of rows (a row is quarantined, or
the file refused), the check of the batch by itself, the suite on all rows together, and the gate.
What is held reaches neither suite nor gate. The gate is asked only about what nothing before it
caught: the logistic regression is trained on the corrupted rows, and meets one that was trained on
clean rows. ``--accepted`` leaves the check of the batch out, as if a person had accepted every
batch. ``--clean N`` counts findings in N clean batches of each size instead.

Takes half a minute of CPU time; with ``--accepted`` some minutes, because the gate is asked more
often. ``--quick`` does not ask the gate.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import gate_power
import msgspec
import numpy as np
import structlog

from bc_pipeline.data.batch_check import CheckedRows, check_batch
from bc_pipeline.data.label_check import check_labels
from bc_pipeline.data.labelled_file import read_labelled
from bc_pipeline.data.rows import row_keys
from bc_pipeline.data.split import SplitSide, hash_position
from bc_pipeline.data.suites import build_frame, read_suite
from bc_pipeline.data.validation import run_suite
from bc_pipeline.errors import DataError
from bc_pipeline.evaluation.anchor import compare_with_anchor
from bc_pipeline.evaluation.separation import measure_separations
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import BatchCheckPolicy
from bc_pipeline.problems.wdbc import WDBC
from bc_pipeline.promotion.gate import decide

EXPECTATIONS = Path(__file__).resolve().parents[1] / "expectations"
SEED = 20240229
LEAK_CHECKS = ("single_feature_auc", "plausible_brier")
SIZES = (25, 30, 57, 114)
LENGTHS = tuple(name for name in WDBC.schema.names if "radius" in name or "perimeter" in name)
AREAS = tuple(name for name in WDBC.schema.names if "area" in name)


class Table:
    """Values and labels that a corruption changes in place."""

    def __init__(self, values: np.ndarray, codes: np.ndarray, size: int = 0) -> None:
        self.values, self.codes = values.copy(), codes.copy()
        self.size = size or len(codes)
        self.rng = np.random.default_rng(SEED)

    def column(self, name: str) -> np.ndarray:
        return self.values[:, WDBC.schema.names.index(name)]

    def part(self, share: float) -> np.ndarray:
        return self.rng.permutation(len(self.codes))[: max(1, round(share * len(self.codes)))]


Corruption = Callable[[Table], None]


def scaled(factor: float, share: float, table: Table) -> None:
    rows = table.part(share)
    for name in LENGTHS:
        table.column(name)[rows] *= factor
    for name in AREAS:
        table.column(name)[rows] *= factor**2


def times(name: str, factor: float, share: float, table: Table) -> None:
    table.column(name)[table.part(share)] *= factor


def rounded(names: tuple[str, ...], decimals: int, table: Table) -> None:
    for name in names:
        table.column(name)[:] = np.round(table.column(name), decimals)


def imputed(name: str, value: Callable[[np.ndarray], float], share: float, table: Table) -> None:
    table.column(name)[table.part(share)] = value(table.column(name))


def swapped(one: str, other: str, table: Table) -> None:
    former = table.column(one).copy()
    table.column(one)[:] = table.column(other)
    table.column(other)[:] = former


def of_other_rows(statistic: str, table: Table) -> None:
    columns = [n for n, name in enumerate(WDBC.schema.names) if statistic in name]
    table.values[:, columns] = np.roll(table.values[:, columns], 1, axis=0)


def leaking(name: str, share: float, table: Table) -> None:
    rows = table.part(share)
    column = table.column(name)
    spread, middle = column.std(), float(np.median(column))
    malignant = table.codes[rows] == 0
    column[rows] = middle + spread * (malignant + table.rng.normal(0, 0.02, len(rows)))


def prevalence(share: float, table: Table) -> None:
    malignant, benign = np.flatnonzero(table.codes == 0), np.flatnonzero(table.codes == 1)
    count = min(len(malignant), round(table.size * share))
    chosen = np.concatenate([malignant[:count], benign[: round(count * (1 - share) / share)]])
    table.values, table.codes = table.values[chosen], table.codes[chosen]


def flipped(share: float, table: Table) -> None:
    rows = table.part(share)
    table.codes[rows] = 1 - table.codes[rows]


CORRUPTIONS: dict[str, Corruption] = {
    **{
        f"lengths x {factor} in {share:.0%}": partial(scaled, factor, share)
        for factor in (1.15, 1.5, 2.54)
        for share in (1, 1 / 3)
    },
    **{
        f"{name} x {factor} in a tenth": partial(times, name, factor, 0.1)
        for name in ("concavity_error", "symmetry_error", "worst_smoothness", "texture_error")
        for factor in (2, 10)
    },
    "mean_texture in whole numbers": partial(rounded, ("mean_texture",), 0),
    "lengths in whole numbers": partial(rounded, LENGTHS, 0),
    "worst_area in tens": partial(rounded, ("worst_area",), -1),
    "mean_perimeter in tens": partial(rounded, ("mean_perimeter",), -1),
    **{
        f"{name} {word} for missing in a tenth": partial(imputed, name, value, 0.1)
        for name in ("texture_error", "concavity_error", "worst_symmetry")
        for word, value in (("0", lambda _: 0.0), ("mean", np.mean))
    },
    "mean_smoothness one value": partial(imputed, "mean_smoothness", np.median, 1),
    "worst_texture median for missing": partial(imputed, "worst_texture", np.median, 0.1),
    "symmetry_error subnormal in a tenth": partial(
        imputed, "symmetry_error", lambda _: 5e-324, 0.1
    ),
    "compactness and concavity errors swapped": partial(
        swapped, "compactness_error", "concavity_error"
    ),
    "smoothness and points errors swapped": partial(
        swapped, "smoothness_error", "concave_points_error"
    ),
    "texture and radius errors swapped": partial(swapped, "texture_error", "radius_error"),
    "errors of other rows": partial(of_other_rows, "_error"),
    "worst values of other rows": partial(of_other_rows, "worst_"),
    "symmetry_error tells the label": partial(leaking, "symmetry_error", 1),
    "symmetry_error tells it in half": partial(leaking, "symmetry_error", 0.5),
    "mean_fractal_dimension tells the label": partial(leaking, "mean_fractal_dimension", 1),
    "60 % malignant": partial(prevalence, 0.6),
    "80 % malignant": partial(prevalence, 0.8),
    "labels swapped": partial(flipped, 1),
    "a tenth of the labels flipped": partial(flipped, 0.1),
    "a third of the labels flipped": partial(flipped, 1 / 3),
}


def _rows(values: np.ndarray, codes: np.ndarray) -> CheckedRows:
    return CheckedRows(values, codes == WDBC.labels.positive.code)


def by_row_rule(problem: Problem, table: Table, folder: Path) -> bool:
    """Whether ingest quarantines a row or refuses the file."""
    words = {problem.labels.positive.code: "M", problem.labels.negative.code: "B"}
    lines = [",".join([*problem.schema.names, problem.labels.column])]
    for values, code in zip(table.values.tolist(), table.codes.tolist(), strict=True):
        lines.append(",".join([*map(repr, values), words[code]]))
    path = folder / "rows.csv"
    path.write_text("\n".join(lines))
    try:
        read = read_labelled(path, problem, problem.labels)
        check_labels(path.name, read, problem, problem.labels, None, declared=False)
    except DataError:
        return True
    return bool(read.defects)


def caught_by(
    problem: Problem, table: Table, others: Table, folder: Path, options: argparse.Namespace
) -> str:
    """What catches a batch first; `others` are the rows that are known."""
    if by_row_rule(problem, table, folder):
        return "row rule"
    reference = others if len(others.codes) else Table(*_public(problem))
    if not options.accepted:
        findings = check_batch(
            problem.schema.names,
            _rows(reference.values, reference.codes),
            _rows(table.values, table.codes),
            problem.batch_check or BatchCheckPolicy(),
        )
        if findings:
            return f"batch check: {findings[0].test}"
    values = np.concatenate([others.values, table.values])
    codes = np.concatenate([others.codes, table.codes])
    frame = build_frame(problem, values, row_keys(values), codes)
    suite = read_suite(problem, "labelled", EXPECTATIONS)
    if not run_suite(problem, suite, frame).passed:
        return "suite"
    if options.quick:
        return "nothing (gate not asked)"
    failed = failed_checks(problem, table, others, reference)
    return f"gate: {described(failed)}" if failed else "nothing"


def described(failed: tuple[str, ...]) -> str:
    """The checks on leaks, or the first one, and the number of the others."""
    named = [name for name in failed if name in LEAK_CHECKS] or [failed[0]]
    others = len(failed) - len(named)
    return ", ".join(named) + (f" and {others} more" if others else "")


def split_rows(values: np.ndarray, codes: np.ndarray) -> tuple[SplitSide, SplitSide]:
    """Train rows and holdout, by the keys that the rows have, each row once."""
    keys = row_keys(values)
    order = [keys.index(key) for key in sorted(set(keys))]
    held = {key for key in keys if hash_position(WDBC.split.salt, key) < WDBC.split.holdout_share}
    positive = WDBC.labels.to_positive(codes)
    sides = []
    for is_held in (False, True):
        rows = [row for row in order if (keys[row] in held) is is_held]
        sides.append(SplitSide(tuple(keys[row] for row in rows), values[rows], positive[rows]))
    return sides[0], sides[1]


def failed_checks(
    problem: Problem, table: Table, others: Table, reference: Table
) -> tuple[str, ...]:
    """Names of the gate's checks that a model of the corrupted rows fails.

    The champion, which is the anchor too, is a model of the clean rows.
    """
    clean_train, clean_holdout = split_rows(reference.values, reference.codes)
    champion = gate_power.train(clean_train)
    values = np.concatenate([others.values, table.values])
    codes = np.concatenate([others.codes, table.codes])
    numbers = np.repeat([0, 1], [len(others.codes), len(table.codes)])
    train, holdout = split_rows(values, codes)
    challenger = gate_power.train(train)
    evaluation = gate_power.evidence(challenger, champion, holdout)
    anchor = compare_with_anchor(
        problem,
        replace(champion.model, version="anchor"),
        gate_power.by_itself(champion, clean_holdout),
        evaluation,
        train,
        holdout,
    )
    assert problem.gate.leak is not None
    separations = measure_separations(
        problem,
        problem.gate.leak,
        values,
        codes == problem.labels.positive.code,
        ("others", "batch"),
        numbers,
    )
    evaluation = msgspec.structs.replace(evaluation, anchor=anchor, separations=separations)
    verdict = decide(problem.gate, problem.labels, evaluation, gate_power.SMOKE)
    return tuple(check.name for check in verdict.checks if check.blocking and not check.passed)


def _public(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    reference = problem.load_reference()
    return reference.values, reference.codes


def count_clean(problem: Problem, batches: int) -> None:
    values, codes = _public(problem)
    rng = np.random.default_rng(SEED)
    for size in SIZES:
        flagged = 0
        for _ in range(batches):
            order = rng.permutation(len(codes))
            new, old = order[:size], order[size:]
            reference, batch = _rows(values[old], codes[old]), _rows(values[new], codes[new])
            flagged += bool(check_batch(problem.schema.names, reference, batch, BatchCheckPolicy()))
        print(f"{size} rows: {flagged} of {batches} clean batches have a finding", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clean", type=int, metavar="N", help="count findings in clean batches")
    parser.add_argument("--quick", action="store_true", help="do not ask the gate")
    parser.add_argument("--accepted", action="store_true", help="leave the check of the batch out")
    options = parser.parse_args()
    if options.clean:
        count_clean(WDBC, options.clean)
        return 0
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    print_table(options)
    return 0


def print_table(options: argparse.Namespace) -> None:
    values, codes = _public(WDBC)
    order = np.random.default_rng(SEED).permutation(len(codes))
    sizes = (len(codes), 57)
    counts_of: dict[int, Counter[str]] = {size: Counter() for size in sizes}
    print(
        f"| {len(CORRUPTIONS)} corruptions | all {len(codes)} rows | 57 rows |\n| --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, corrupt in CORRUPTIONS.items():
            cells = []
            for size in sizes:
                # A batch with more malignant rows is chosen among more rows.
                drawn = order[: min(len(codes), 3 * size)] if "malignant" in name else order[:size]
                table = Table(values[drawn], codes[drawn], size)
                corrupt(table)
                known = np.setdiff1d(order, drawn)
                others = Table(values[known], codes[known])
                cells.append(caught_by(WDBC, table, others, Path(folder), options))
                counts_of[size][cells[-1].partition(":")[0]] += 1
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for stage in dict.fromkeys(stage for counts in counts_of.values() for stage in counts):
        print(f"| {stage} | {' | '.join(str(counts_of[size][stage]) for size in sizes)} |")


if __name__ == "__main__":
    sys.exit(main())
