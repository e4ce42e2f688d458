"""How often does the gate take clean rows for a leak, and which leaks does it find?

Single features: datasets of public rows in random order, as one base and small batches. In the
harder variant the reference is the other half of the public rows, so that both vary. Brier score:
out-of-fold losses of the best recipe, drawn with replacement and made smaller as by better recipes.
Leaks: each feature in turn is made from the label, with a little noise.

    python bench/leak_checks.py [--trials 1000] [--seed 11]
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from bc_pipeline.artifacts.evidence import Confusion, Score
from bc_pipeline.artifacts.verdict import Check
from bc_pipeline.data.rows import row_keys
from bc_pipeline.data.split import SplitSide
from bc_pipeline.evaluation.separation import measure_separations
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem, Reference
from bc_pipeline.promotion.leak_checks import plausible_brier, single_features
from bc_pipeline.training.candidates import out_of_fold

WDBC = get_problem("wdbc")
PUBLIC = WDBC.load_reference()
LEAK = WDBC.gate.leak
assert LEAK is not None
NAMES = WDBC.schema.names
SIZES = (25, 57, 114)


def judge(problem: Problem, values: np.ndarray, codes: np.ndarray, sizes: list[int]) -> Check:
    """Rows in the order in which they came, in batches of these sizes."""
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    positive = problem.labels.to_positive(codes).astype(bool)
    names = [f"batch-{number}" for number in range(len(sizes))]
    assert LEAK is not None
    return single_features(
        LEAK, measure_separations(problem, LEAK, values, positive, names, numbers)
    )


def in_batches(rows: int, base: int, size: int) -> list[int]:
    rest = rows - base
    return [base, *[size] * (rest // size), *([rest % size] if rest % size else [])]


def count_clean(trials: int, rng: np.random.Generator) -> None:
    rows = len(PUBLIC.codes)
    for size in (4, *SIZES):
        alarms = halves = 0
        for _ in range(trials):
            order = rng.permutation(rows)
            values, codes = PUBLIC.values[order], PUBLIC.codes[order]
            passed = judge(WDBC, values, codes, in_batches(rows, 338, size)).passed
            alarms += not passed
            half = rows // 2
            known = Reference(values[half:], codes[half:])
            other = replace(WDBC, load_reference=lambda known=known: known)
            sizes = in_batches(half, 120, size)
            halves += not judge(other, values[:half], codes[:half], sizes).passed
        print(
            f"batches of {size}: {alarms} of {trials} clean datasets; {halves} of {trials} where "
            "the reference is other rows",
            flush=True,
        )


def count_leaks(trials: int, rng: np.random.Generator) -> None:
    """Each feature made from the label, in the last batch of a dataset or in all rows."""
    rows = len(PUBLIC.codes)
    for size in (*SIZES, rows):
        missed: dict[str, int] = dict.fromkeys(NAMES, 0)
        for column, name in enumerate(NAMES):
            for _ in range(trials):
                order = rng.permutation(rows)
                values, codes = PUBLIC.values[order], PUBLIC.codes[order]
                leak = values[-size:, column]
                leak[:] = np.median(leak) + leak.std() * (
                    (codes[-size:] == WDBC.labels.positive.code) + rng.normal(0, 0.02, size)
                )
                sizes = [rows - size, size] if size < rows else [rows]
                missed[name] += judge(WDBC, values, codes, sizes).passed
        detected = 1 - sum(missed.values()) / trials / len(NAMES)
        always = [name for name, count in missed.items() if not count]
        print(
            f"leak in {size} rows: found {detected:.0%}; always for {len(always)} of {len(NAMES)} "
            f"features; AUC 1 is no evidence for {sum(n == trials for n in missed.values())}",
            flush=True,
        )


def count_plausible(trials: int, rng: np.random.Generator) -> None:
    assert LEAK is not None
    order = np.argsort(row_keys(PUBLIC.values))
    positive = WDBC.labels.to_positive(PUBLIC.codes)[order]
    side = SplitSide(tuple(row_keys(PUBLIC.values[order])), PUBLIC.values[order], positive)
    probability = out_of_fold(WDBC.selection, WDBC.candidate("svm_rbf"), side, 1).mean(axis=0)
    losses = (probability - positive) ** 2
    print(f"svm_rbf on {len(side)} rows: {losses.mean():.4f}, deviation {losses.std(ddof=1):.4f}")
    for rows in (250, 459, 1000, 5000):
        shares = []
        for gain in (0.0, 0.12, 0.41):
            drawn = (1 - gain) * rng.choice(losses, (trials * 10, rows)).mean(axis=1)
            shares.append(np.mean([not _plausible(value, rows) for value in drawn]))
        print(
            f"{rows} train rows: fails {shares[0]:.4f}; of a recipe that is 12 % better "
            f"{shares[1]:.4f}, 41 % better {shares[2]:.4f}; bound {_bound(rows):.4f}",
            flush=True,
        )
    held = np.array([rng.permutation(losses)[:110].mean() for _ in range(trials * 10)])
    print(
        f"random holdouts of 110 rows with a Brier score up to .0062: {np.mean(held <= 0.0062):.3f}"
    )


def _check(brier: float, rows: int) -> Check:
    assert LEAK is not None
    keys = tuple(str(row) for row in range(rows))
    counts = Confusion(0, 0, 0, 0)
    return plausible_brier(
        LEAK, Score("", 0.5, keys, (), (), counts, {"brier": brier}, {}, None, (), ())
    )


def _plausible(brier: float, rows: int) -> bool:
    return _check(brier, rows).passed


def _bound(rows: int) -> float:
    return _check(0.0, rows).bound or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=200, help="clean datasets of each kind (200)")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    count_plausible(arguments.trials, rng)
    count_clean(arguments.trials, rng)
    count_leaks(max(1, arguments.trials // 20), rng)


if __name__ == "__main__":
    main()
