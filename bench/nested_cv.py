"""How good are the recipes and the selection among them, on rows that neither was trained on?

Nested cross-validation on all 569 public rows. In each outer fold the train rows go through
the project's own cross-validation, choice and threshold rule; the test rows are only scored.
Metrics at .5 are means over the outer repeats, with a bootstrap interval over patients.
Nothing is tuned by what this prints.

    python bench/nested_cv.py [--repeats 2] [--folds 5] [--inner-folds 5]
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import structlog
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.split import SplitSide
from bc_pipeline.evaluation.bootstrap import percentile_interval, row_weights
from bc_pipeline.evaluation.metrics import compute_metrics
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import row_key
from bc_pipeline.training.candidates import cross_validate
from bc_pipeline.training.fit import fit, positive_probability
from bc_pipeline.training.folds import assign_folds
from bc_pipeline.training.select import select

WDBC = get_problem("wdbc")
SELECTED = "chosen by the project"
BOOTSTRAP_ROUNDS = 1000
METRICS = {
    "f1_negative": "F1 benign",
    "f1": "F1 malignant",
    "sensitivity": "malignant recall",
    "roc_auc": "AUC",
    "brier": "Brier",
    "calibration_error": "ECE10",
}


class OuterResults:
    """Probabilities and calls of the outer test rows, by recipe and repeat."""

    def __init__(self, problem: Problem, repeats: int, rows: int) -> None:
        names = [*(candidate.name for candidate in problem.candidates), SELECTED]
        self.probability = {name: np.empty((repeats, rows)) for name in names}
        self.called = {name: np.empty((repeats, rows), dtype=bool) for name in names}
        self.thresholds: dict[str, list[float]] = {name: [] for name in names}
        self.seconds: Counter[str] = Counter()
        self.chosen: Counter[str] = Counter()

    def store(
        self, name: str, repeat: int, test: np.ndarray, probability: np.ndarray, threshold: float
    ) -> None:
        self.probability[name][repeat, test] = probability
        self.called[name][repeat, test] = probability > threshold
        self.thresholds[name].append(threshold)


def run(
    problem: Problem, keys: tuple[str, ...], values: np.ndarray, positive: np.ndarray, inner: int
) -> OuterResults:
    """Go through every outer fold; the inner cross-validation sees its train rows only."""
    policy = problem.selection
    inside = replace(problem, selection=replace(policy, folds=inner, repeats=1))
    outer = OuterResults(problem, policy.repeats, len(keys))
    progress = Progress(*Progress.get_default_columns(), TimeElapsedColumn(), transient=True)
    with progress, tempfile.TemporaryDirectory() as home:
        store = Store(Path(home), problem.name)
        total = policy.repeats * policy.folds * len(problem.candidates)
        task = progress.add_task("Outer folds", total=total)
        for repeat, fold_of in enumerate(assign_folds(keys, positive, policy)):
            for fold in range(policy.folds):
                test = fold_of == fold
                train = SplitSide(
                    keys=tuple(keys[row] for row in np.flatnonzero(~test)),
                    values=values[~test],
                    positive=positive[~test],
                )
                results, scored = [], {}
                for candidate in problem.candidates:
                    began = time.process_time()
                    result = cross_validate(
                        inside,
                        candidate,
                        train,
                        store=store,
                        dataset=f"outer-{repeat}-{fold}",
                    )
                    estimator = fit(candidate, policy.seed, train.values, train.positive)
                    scored[candidate.name] = positive_probability(
                        candidate, estimator, values[test]
                    )
                    threshold = result.threshold(policy.sensitivity_target)
                    outer.store(candidate.name, repeat, test, scored[candidate.name], threshold)
                    outer.seconds[candidate.name] += time.process_time() - began
                    results.append(result)
                    progress.advance(task)
                choice = select(inside, results)
                outer.chosen[choice.candidate] += 1
                outer.store(SELECTED, repeat, test, scored[choice.candidate], choice.threshold)
    return outer


def at_half(
    problem: Problem, probability: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Metrics at .5 on weighted rows, each the mean over the repeats, shape (rounds,)."""
    by_repeat = [
        compute_metrics(weights, positive, row, 0.5, problem.decision_threshold_cost)
        for row in probability
    ]
    return {name: np.mean([one[name] for one in by_repeat], axis=0) for name in METRICS}


def report(problem: Problem, outer: OuterResults, positive: np.ndarray) -> str:
    """Both tables, in Markdown."""
    policy = problem.selection
    weights = row_weights(len(positive), BOOTSTRAP_ROUNDS, policy.seed)
    whole = np.ones((1, len(positive)))
    title = {candidate.name: candidate.title for candidate in problem.candidates}
    first = [
        f"| at .5 | {' | '.join(METRICS.values())} |",
        f"|---|{'---|' * len(METRICS)}",
    ]
    rule = f"threshold for {policy.sensitivity_target:.0%} recall in the inner folds"
    second = [
        f"| {rule} | malignant recall | specificity | thresholds | CPU s |",
        "|---|---|---|---|---|",
    ]
    for name, probability in outer.probability.items():
        plain = at_half(problem, probability, positive, whole)
        resampled = at_half(problem, probability, positive, weights)
        cells = []
        for metric in METRICS:
            digits = 4 if metric == "brier" else 3
            interval = percentile_interval(resampled[metric], 0.95)
            cells.append(
                f"{plain[metric][0]:.{digits}f} "
                f"[{interval.low:.{digits}f}-{interval.high:.{digits}f}]"
            )
        label = title.get(name, name)
        first.append(f"| {label} | {' | '.join(cells)} |")
        called, thresholds = outer.called[name], outer.thresholds[name]
        seconds = f"{outer.seconds[name]:.1f}" if name in outer.seconds else ""
        second.append(
            f"| {label} | {called[:, positive == 1].mean():.3f} "
            f"| {1 - called[:, positive == 0].mean():.3f} "
            f"| {min(thresholds):.2f}-{max(thresholds):.2f} | {seconds} |"
        )
    chosen = ", ".join(f"{title[name]} {count}" for name, count in outer.chosen.most_common())
    return "\n".join([*first, "", *second, "", f"Chosen, of the outer folds: {chosen}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2, help="outer repeats (2)")
    parser.add_argument("--folds", type=int, default=5, help="outer folds (5)")
    parser.add_argument("--inner-folds", type=int, default=5, help="folds of the choice (5)")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    problem = replace(
        WDBC,
        selection=replace(WDBC.selection, folds=options.folds, repeats=options.repeats),
    )
    loaded = problem.load_reference()
    keys = [row_key(row) for row in loaded.values]
    order = np.argsort(keys)
    positive = problem.labels.to_positive(loaded.codes)[order]
    began = time.monotonic()
    outer = run(
        problem,
        tuple(keys[row] for row in order),
        loaded.values[order],
        positive,
        options.inner_folds,
    )
    Console().print(
        f"{len(keys)} rows, {options.repeats} x {options.folds} outer and "
        f"{options.inner_folds} inner folds, {time.monotonic() - began:.0f} s\n"
    )
    print(report(problem, outer, positive))


if __name__ == "__main__":
    main()
