"""How fast near-twins are found, how clearly they differ from other rows, and what they would do.

Prints the seconds for rows of four kinds: distinct samples; the same samples twice, with six
and with three decimals; many records of few samples; and rows that differ by about the
tolerance, so that most are near-twins of several groups, the worst case. Then the distance
of copies of the public rows, and of distinct public rows, in tolerances. The program ends with
1 where 100,000 rows take longer than a minute of CPU time, or a copy is no near-twin.

With --brier it also cross-validates the candidates on the public rows, on the rows doubled
with three decimals where both count, and on the dataset that is made of the doubled rows.

    python bench/near_twins.py [--rows 10000 30000 100000] [--brier] [--repeats 2]
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import structlog

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.ingest import ingest_file
from bc_pipeline.data.near_twins import GroupIndex, find_groups
from bc_pipeline.data.snapshot import load_dataset, make_snapshot
from bc_pipeline.data.split import split
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from bc_pipeline.problems.policies import NearTwinPolicy, SelectionPolicy
from bc_pipeline.training.candidates import cross_validate
from bc_pipeline.training.fit import fit, positive_probability
from bc_pipeline.training.select import select

WDBC = get_problem("wdbc")
BOUND_SECONDS = 60.0
SEED = 20240229
BATCH = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--brier", action="store_true")
    parser.add_argument("--repeats", type=int, default=2, help="of the cross-validation")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    policy, rows = WDBC.near_twins, WDBC.load_reference().values
    assert policy is not None
    in_time = [measure_speed(policy, rows, count) for count in options.rows]
    are_near = print_distances(policy, rows)
    if options.brier:
        print_brier(replace(WDBC.selection, repeats=options.repeats))
    return 0 if all(in_time) and are_near else 1


def make_rows(rows: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Rows of each kind, shape (count, n_features)."""
    rng = np.random.default_rng(SEED)
    logs = np.log(rows + 1e-3)
    drawn = rng.multivariate_normal(logs.mean(axis=0), np.cov(logs.T), count)
    distinct = np.maximum(np.exp(drawn) - 1e-3, 0)
    few = np.repeat(distinct[: count // 1000], 1000, axis=0)
    return {
        "distinct samples": distinct,
        "the same twice": np.concatenate([distinct[: count // 2], distinct[: count // 2].round(3)]),
        "1,000 records of each": few * (1 + rng.uniform(-0.002, 0.002, few.shape)),
        "within 1.5 % of one": rows[0] * (1 + rng.uniform(-0.015, 0.015, distinct.shape)),
    }


def measure_speed(policy: NearTwinPolicy, rows: np.ndarray, count: int) -> bool:
    """Print the CPU time for each kind of rows, and for a small batch beside known rows."""
    slowest = 0.0
    for kind, values in make_rows(rows, count).items():
        began = time.process_time()
        groups, first, bridging = find_groups(policy, values)
        seconds = time.process_time() - began
        slowest = max(slowest, seconds)
        index = GroupIndex(policy)
        index.add(values)
        began = time.process_time()
        index.add(values[:BATCH] * 1.1)
        batch = time.process_time() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{count:7,} rows, {kind:22}: {seconds:6.2f} s, {len(groups) / seconds:9,.0f} rows/s, "
            f"{len(first):7,} groups, {bridging.sum():6,} bridging; "
            f"a batch of {BATCH} more: {batch:.3f} s; peak {memory:.0f} MiB"
        )
    return slowest <= BOUND_SECONDS


def print_distances(policy: NearTwinPolicy, rows: np.ndarray) -> bool:
    """Print the distances in tolerances; false where a copy is no near-twin."""
    rng = np.random.default_rng(SEED)
    points = policy.scale(rows)
    digits = np.vectorize(lambda value: float(f"{value:.3g}"))
    copies = {
        "3 decimals": rows.round(3),
        "2 decimals": rows.round(2),
        "3 significant digits": digits(rows),
        "float32": rows.astype(np.float32).astype(np.float64),
        "float16": rows.astype(np.float16).astype(np.float64),
        "off by up to .4 %": rows * (1 + rng.uniform(-0.004, 0.004, rows.shape)),
        "off by up to .5 %": rows * (1 + rng.uniform(-0.005, 0.005, rows.shape)),
        "1 decimal (no near-twins)": rows.round(1),
        "2 significant digits (no near-twins)": np.vectorize(lambda v: float(f"{v:.2g}"))(rows),
    }
    farthest = 0.0
    for name, copy in copies.items():
        distance = float(np.abs(policy.scale(copy) - points).max())
        print(f"largest distance of a copy, {name}: {distance:.2f}")
        if "no near-twins" not in name:
            farthest = max(farthest, distance)
    nearest = min(
        float(np.abs(points[:row] - points[row]).max(axis=1).min()) for row in range(1, len(points))
    )
    print(f"smallest distance of two distinct rows: {nearest:.2f}")
    return farthest <= 1 < nearest


def print_brier(selection: SelectionPolicy) -> None:
    """Print Brier scores on the public rows, doubled and counted twice, and doubled and grouped."""
    problem = replace(WDBC, selection=selection)
    apart = replace(problem, near_twins=None)
    cases = {
        "public rows": (problem, False),
        "doubled, both count": (apart, True),
        "doubled, in groups": (problem, True),
    }
    for title, (policy, doubled) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            scores, chosen, rows = cross_validated(policy, Path(folder), doubled=doubled)
        print(f"{title}: {rows} rows, selected: {chosen}")
        for name, (cross_validation, holdout) in scores.items():
            print(f"  Brier of {name:18}: CV {cross_validation:.4f}, holdout {holdout:.4f}")


def cross_validated(
    problem: Problem, folder: Path, *, doubled: bool
) -> tuple[dict[str, tuple[float, float]], str, int]:
    """Brier scores of each candidate in cross-validation and on the holdout, and the choice."""
    store = Store(folder, problem.name)
    reference = problem.load_reference()
    copies = [reference.values, *([reference.values.round(3)] if doubled else [])]
    for number, values in enumerate(copies):
        path = folder / f"{number}.csv"
        lines = [",".join((*problem.schema.names, problem.labels.column))]
        lines += [
            ",".join((*map(repr, row), "MB"[code]))
            for row, code in zip(values.tolist(), reference.codes, strict=True)
        ]
        path.write_text("\n".join(lines) + "\n")
        ingest_file(path, problem, store, datetime(2026, 1, 1 + number, tzinfo=UTC))
    name = make_snapshot(problem, store, "2026-06-01").document.dataset
    parts = split(problem.split, load_dataset(problem, store, name), problem.near_twins)
    scores, results = {}, []
    for candidate in problem.candidates:
        result = cross_validate(problem, candidate, parts.train, store=store, dataset=name)
        results.append(result)
        brier = result.document.metrics["brier"]
        assert brier is not None
        estimator = fit(candidate, SEED, parts.train.values, parts.train.positive)
        probability = positive_probability(candidate, estimator, parts.holdout.values)
        scores[candidate.name] = (
            brier,
            float(((probability - parts.holdout.positive) ** 2).mean()),
        )
    chosen = select(problem, results).candidate
    return scores, chosen, len(parts.train) + len(parts.holdout)


if __name__ == "__main__":
    sys.exit(main())
