"""How long one explanation takes, and how far it is from one of fifty times the work.

Every candidate of the problem is fitted on the public rows, exported and asked as the service
asks it. The error is the largest difference of any contribution, over a sample of records,
from an estimate of fifty times as many orders of the features; it stands beside the standard
error that the explanation itself reports. The bounds are 0.1 ms for a linear model and 150 ms
for any other; the program ends with 1 where the median misses its bound.

    python bench/explain.py [--rows 8] [--repeats 20]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from bc_pipeline.artifacts.export import export_onnx
from bc_pipeline.artifacts.predictors import INPUT, OUTPUT, make_session
from bc_pipeline.explanation import shapley
from bc_pipeline.explanation.explainer import Explainer
from bc_pipeline.problems import get_problem

SEED = 20240229
TIMES_MORE = 50
BOUNDS_MS = {"linear": 0.1, "permutation-shapley": 150.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    problem = get_problem("wdbc")
    loaded = problem.load_reference()
    values, positives = loaded.values, problem.labels.to_positive(loaded.codes)
    ranges = np.column_stack([values.min(axis=0), values.max(axis=0)])
    centre = np.median(values, axis=0)
    chosen = np.random.default_rng(SEED).choice(len(values), options.rows, replace=False)
    slow = False
    print("candidate            method               build ms  median ms  p95 ms  orders", end="")
    print("  largest  std.err.  error")
    for candidate in problem.candidates:
        estimator = candidate.build(candidate.params, SEED).fit(values, positives)
        session = make_session(export_onnx(estimator, values.shape[1]))

        def positive(rows: np.ndarray, session=session) -> np.ndarray:
            return session.run([OUTPUT], {INPUT: np.ascontiguousarray(rows)})[0]

        began = time.perf_counter()
        explainer = Explainer(positive, problem.schema.names, centre.tolist(), ranges, len(values))
        build = time.perf_counter() - began
        seconds = []
        for repeat in range(options.repeats):
            row = values[chosen[repeat % len(chosen)]].tolist()
            began = time.perf_counter()
            explainer.explain(row)
            seconds.append(time.perf_counter() - began)
        orders, largest, reported, error = _deviations(explainer, positive, centre, values[chosen])
        median = 1000 * statistics.median(seconds)
        slow = slow or median > BOUNDS_MS[explainer.method]
        print(
            f"{candidate.name:20} {explainer.method:20} {1000 * build:8.1f} {median:10.3f} "
            f"{1000 * np.quantile(seconds, 0.95):7.3f} {orders:7d} {largest:8.2f} "
            f"{reported:9.4f} {error:6.4f}"
        )
    return int(slow)


def _deviations(
    explainer: Explainer,
    positive: Callable[[np.ndarray], np.ndarray],
    centre: np.ndarray,
    rows: np.ndarray,
) -> tuple[int, float, float, float]:
    """Orders, largest contribution, reported standard error, and error against more orders."""
    largest = error = reported = 0.0
    orders = 0
    for row in rows:
        explanation = explainer.explain(row.tolist())
        contributions = np.array(list(explanation.contributions.values()))
        largest = max(largest, float(np.abs(contributions).max()))
        if explanation.standard_errors is None:
            continue
        orders = explanation.permutations or 0
        ends = positive(np.stack([centre, row]))
        more = shapley.sample(
            positive,
            centre,
            # Other digits far behind the point: the same record with other orders.
            row * (1 + 1e-15),
            (float(ends[0]), float(ends[1])),
            explainer.bound,
            pairs=TIMES_MORE * orders // 2,
        )
        error = max(error, float(np.abs(contributions - more.contributions).max()))
        reported = max(reported, *explanation.standard_errors.values())
    return orders, largest, reported, error


if __name__ == "__main__":
    sys.exit(main())
