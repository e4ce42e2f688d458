"""How often do the intervals of metrics cover the truth?

The population is the public rows with out-of-fold probabilities of a recipe, so that every metric
is known. Samples are drawn from it with replacement; coverage and mean width of 95 % intervals are
counted over the samples, beside a percentile bootstrap of the same samples.

    python bench/interval_coverage.py [--samples 1000] [--rows 110]
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bc_pipeline.data.split import SplitSide
from bc_pipeline.evaluation.bootstrap import percentile_interval, row_weights
from bc_pipeline.evaluation.metrics import compute_metrics
from bc_pipeline.evaluation.scores import score_rows
from bc_pipeline.problems import get_problem
from bc_pipeline.training.candidates import out_of_fold
from bc_pipeline.training.threshold import sensitivity_threshold

WDBC = get_problem("wdbc")
BOOTSTRAP_ROUNDS = 400
RECIPES = ("logistic", "random_forest")


def covered(recipe: str, samples: int, rows: int) -> dict[str, tuple[float, float, float]]:
    """Coverage, mean width, and coverage of the bootstrap, by metric."""
    reference, candidate = WDBC.load_reference(), WDBC.candidate(recipe)
    positive = WDBC.labels.to_positive(reference.codes)
    keys = tuple(f"row{row}" for row in range(len(positive)))
    population = SplitSide(keys, reference.values, positive)
    policy = replace(WDBC.selection, repeats=1)
    (probability,) = out_of_fold(policy, candidate, population, threads=1)
    threshold = sensitivity_threshold(
        candidate.title, positive, probability, policy.sensitivity_target
    )
    truth = score_rows(WDBC, population, probability, threshold, ()).metrics
    draw = np.random.default_rng(1)
    hits: dict[str, list[tuple[bool, float, bool]]] = {}
    for _ in track(range(samples), description=recipe):
        index = draw.integers(0, len(positive), rows)
        sample = SplitSide(
            tuple(f"row{row}" for row in range(rows)), reference.values[index], positive[index]
        )
        score = score_rows(WDBC, sample, probability[index], threshold, ())
        weights = row_weights(rows, BOOTSTRAP_ROUNDS, 1)
        cost = WDBC.decision_threshold_cost
        resampled = compute_metrics(weights, positive[index], probability[index], threshold, cost)
        for metric, interval in score.intervals.items():
            other = percentile_interval(resampled[metric], interval.level)
            known = interval.low is not None and interval.high is not None
            hits.setdefault(metric, []).append(
                (
                    known and interval.low <= truth[metric] <= interval.high,
                    interval.high - interval.low if known else np.nan,
                    other.low is not None and other.low <= truth[metric] <= other.high,
                )
            )
    return {
        metric: tuple(np.nanmean(np.array(lines, dtype=float), axis=0))
        for metric, lines in hits.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=110)
    options = parser.parse_args()
    table = Table(title=f"95 % intervals of {options.samples} samples of {options.rows} rows")
    for heading in ("recipe", "metric", "coverage", "mean width", "coverage of the bootstrap"):
        table.add_column(heading)
    for recipe in RECIPES:
        for metric, (coverage, width, bootstrap) in covered(
            recipe, options.samples, options.rows
        ).items():
            table.add_row(recipe, metric, f"{coverage:.3f}", f"{width:.4f}", f"{bootstrap:.3f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
