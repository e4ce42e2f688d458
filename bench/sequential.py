"""How often do 52 weekly looks find a recipe better that is not, and how soon one that is?

Rows are drawn from the public ones with the losses that both recipes have there out of fold; under
the null hypothesis their mean difference is taken away. Each look has all train rows so far: the
corrected resampled t-test on ten times five folds, as in the pipeline, and the e-value of the rows
as they came, of which the first hundred are not predicted. What the train rows add to the variance
of a difference is not simulated.

    python bench/sequential.py [--replays 400]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from gate_power import WDBC, rows_at
from rich.console import Console
from rich.table import Table

from bc_pipeline.betting_test import log_e_values
from bc_pipeline.corrected_t_test import corrected_resampled_t
from bc_pipeline.problems.base import Candidate
from bc_pipeline.training.candidates import out_of_fold
from bc_pipeline.training.prequential import FIRST_ROWS

LOOKS, FIRST_TRAIN_ROWS = 52, 183
FOLDS, REPEATS = WDBC.selection.folds, WDBC.selection.repeats
BOUND = np.log((len(WDBC.candidates) - 1) / WDBC.gate.sequential_alpha)
T_ALPHA = WDBC.gate.switch_alpha
FAR = 20_000
CHAMPIONS, CHALLENGER = ("logistic", "gradient_boosting"), "svm_rbf"


def losses(candidate: Candidate) -> np.ndarray:
    """Squared error of each public row out of fold, shape (repeats, rows)."""
    rows = rows_at(np.arange(len(WDBC.load_reference().codes)))
    policy = replace(WDBC.selection, repeats=3)
    return (out_of_fold(policy, candidate, rows, threads=1) - rows.positive) ** 2


def p_values(gains: np.ndarray, looks: np.ndarray, draw: np.random.Generator) -> Iterator[float]:
    """Of the t-test at each look, which is a number of rows; a row's folds never change."""
    rows = gains.shape[1]
    blocks = draw.permuted(np.tile(np.arange(FOLDS), (REPEATS, -(-rows // FOLDS), 1)), axis=2)
    is_in_fold = blocks.reshape(REPEATS, 1, -1)[:, :, :rows] == np.arange(FOLDS)[:, None]
    of_repeat = gains[np.arange(REPEATS) % len(gains)][:, None]
    sums, counts = (np.cumsum(is_in_fold * each, axis=2) for each in (of_repeat, 1))
    for differences in np.moveaxis((sums / np.maximum(counts, 1))[:, :, looks - 1], 2, 0):
        yield corrected_resampled_t(differences, 1 / FOLDS).p_value


def year(gains: np.ndarray, rows_a_week: int, draw: np.random.Generator) -> tuple[bool, bool, bool]:
    """Whether a look finds a gain: by t at .05, by t at the policy's level, by the e-value."""
    train_rows = FIRST_TRAIN_ROWS + np.round(0.8 * rows_a_week * np.arange(LOOKS)).astype(int)
    sample = gains[:, draw.integers(0, gains.shape[1], train_rows[-1])]
    smallest = min(p_values(sample, np.unique(train_rows), draw))
    log_e = log_e_values(sample[0, FIRST_ROWS:])[train_rows - FIRST_ROWS - 1]
    return smallest < 0.05, smallest < T_ALPHA, bool((log_e >= BOUND).any())


def rows_until_bound(gains: np.ndarray, draw: np.random.Generator) -> float:
    """Number of new rows after which the e-value reaches its bound."""
    is_reached = log_e_values(gains[0, draw.integers(0, gains.shape[1], FAR)]) >= BOUND
    return float(is_reached.argmax()) + 1 if is_reached.any() else np.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replays", type=int, default=400)
    replays = parser.parse_args().replays
    began = time.monotonic()
    of = {name: losses(WDBC.candidate(name)) for name in {*CHAMPIONS, CHALLENGER}}
    table = Table(
        title=f"Challenger {CHALLENGER}: {replays} replays of {LOOKS} looks from "
        f"{FIRST_TRAIN_ROWS} train rows on"
    )
    for heading in (
        "champion",
        "true gain",
        "rows a week",
        "t at .05",
        f"t at {T_ALPHA:g}",
        "e-value",
        "either",
        "new rows until the e-value, median",
    ):
        table.add_column(heading)
    for champion in CHAMPIONS:
        gains = of[champion] - of[CHALLENGER]
        for is_null in (True, False):
            population = gains - gains.mean() if is_null else gains
            draw = np.random.default_rng(1)
            rows = [rows_until_bound(population, draw) for _ in range(min(replays, 200))]
            for rows_a_week in (0, 4, 25):
                years = np.array([year(population, rows_a_week, draw) for _ in range(replays)])
                either = years[:, 1] | years[:, 2]
                table.add_row(
                    champion,
                    "none" if is_null else f"{gains.mean():.4f} of {of[champion].mean():.4f}",
                    str(rows_a_week),
                    *(f"{share:.3f}" for share in (*years.mean(axis=0), either.mean())),
                    "" if is_null or rows_a_week else f"{np.median(rows):.0f}",
                )
    Console(width=150).print(table)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
