"""How often does the gate let an equal model pass, and how often a worse one?

Each trial draws a fresh holdout of 110 rows from the public 569, as large as the pinned one, and
trains on the rest; with `--pinned` the holdout is the pipeline's own, and only the train rows are
drawn. Champion and challenger go through the project's own folds, threshold rule, evaluation and
gate, with a faster logistic regression; trials whose champion would not have passed the gate are
left out, which is why their numbers differ. "Old rule" is what the gate replaces: F1 on the holdout
at least the champion's.

    python bench/gate_power.py [--pinned] [--trials 60] [--seconds 110]
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec
import numpy as np
import structlog
from newton_logistic import NewtonLogistic
from rich.console import Console
from rich.table import Table

from bc_pipeline.artifacts.evidence import Evaluation, Parity
from bc_pipeline.artifacts.verdict import Smoke
from bc_pipeline.data.rows import row_keys
from bc_pipeline.data.split import SplitSide, hash_position
from bc_pipeline.errors import DataError
from bc_pipeline.evaluation.anchor import compare_with_anchor
from bc_pipeline.evaluation.evaluate import evaluate
from bc_pipeline.problems import get_problem
from bc_pipeline.problems.base import Candidate
from bc_pipeline.promotion.gate import decide
from bc_pipeline.training.candidates import nested_threshold, out_of_fold
from bc_pipeline.training.fit import fit
from bc_pipeline.training.results import fold_losses
from bc_pipeline.training.threshold import sensitivity_threshold

WDBC = get_problem("wdbc")
REFERENCE = WDBC.load_reference()
POSITIVE = WDBC.labels.to_positive(REFERENCE.codes)
HOLDOUT_ROWS = 110
WEEK = 4
# The policy's bounds were chosen on the seeds 0 to 109, so these are others.
FIRST_SEED = 1000
PARITY = Parity(rows=1000, worst_difference=0.0, flips=0)
SMOKE = Smoke(passed=True, rows=20, worst_difference=0.0, median_ms=1.0)


def rows_at(index: np.ndarray) -> SplitSide:
    """The public rows at these positions."""
    return SplitSide(tuple(f"row{i}" for i in index), REFERENCE.values[index], POSITIVE[index])


Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Model:
    """A predictor, with the fields of a manifest that an evaluation has."""

    recipe: Candidate
    threshold: float
    positive: Predict
    version: str = ""

    @property
    def manifest(self) -> SimpleNamespace:
        return SimpleNamespace(
            version=self.version,
            recipe=self.recipe,
            lineage=SimpleNamespace(dataset="d", as_of="2026-01-01T00:00:00Z"),
            schema_fingerprint=WDBC.schema.fingerprint,
            threshold=self.threshold,
        )


@dataclass(frozen=True, eq=False)
class Trained:
    """A model with the cross-validation that set its threshold."""

    model: Model
    train: SplitSide
    oof: np.ndarray
    nested_call: np.ndarray
    losses: np.ndarray


TRAINED: dict[tuple[str, bytes, bytes], Trained] = {}
"""Models of rows that occur again: with the pinned holdout each trial has the same train rows."""


def train(
    rows: SplitSide, candidate: str = "logistic", labels: np.ndarray | None = None
) -> Trained:
    """Cross-validate, set the threshold and fit, as the pipeline does."""
    known = (
        candidate,
        rows.values.tobytes(),
        (rows.positive if labels is None else labels).tobytes(),
    )
    if known not in TRAINED:
        TRAINED[known] = _train(rows, candidate, labels)
    return TRAINED[known]


def _train(rows: SplitSide, candidate: str, labels: np.ndarray | None) -> Trained:
    recipe, policy = WDBC.candidate(candidate), WDBC.selection
    if candidate == "logistic":
        recipe = replace(recipe, build=lambda params, _: NewtonLogistic(params["C"]))
    if labels is not None:
        rows = replace(rows, positive=labels)
    oof = out_of_fold(policy, recipe, rows, threads=1)
    losses = fold_losses(rows.keys, rows.positive, oof, policy)
    nested_call = oof[0] > nested_threshold(policy, recipe, rows, threads=1)
    pooled = oof.mean(axis=0)
    fitted = fit(recipe, policy.seed, rows.values, rows.positive)

    def predict(values: np.ndarray) -> np.ndarray:
        return fitted.predict_proba(values)[:, 1]

    target = policy.sensitivity_target
    threshold = sensitivity_threshold(recipe.title, rows.positive, pooled, target)
    return Trained(Model(recipe, threshold, predict), rows, pooled, nested_call, losses)


def evidence(new: Trained, old: Trained | None, holdout: SplitSide) -> Evaluation:
    """What the gate gets to see of a challenger and a champion."""
    return evaluate(
        WDBC,
        challenger=replace(new.model, version="challenger"),
        champion=replace(old.model, version="champion") if old else None,
        champion_generation=1,
        train=new.train,
        holdout=holdout,
        oof_probability=new.oof,
        nested_call=new.nested_call,
        losses={side.model.recipe.recipe: side.losses for side in (old, new) if side},
        parity=PARITY,
    )


@lru_cache(maxsize=4)
def by_itself(champion: Trained, holdout: SplitSide) -> Evaluation:
    """The evaluation with which it became the first champion."""
    return evidence(champion, None, holdout)


def judge(
    champion: Trained, challenger: Trained, holdout: SplitSide, anchor: Trained | None = None
) -> Evaluation | None:
    """The evaluation, or None where the champion would not have passed the gate.

    Without an anchor it is the champion, as after the first promotion.
    """
    alone = by_itself(champion, holdout)
    if not decide(WDBC.gate, WDBC.labels, alone, SMOKE).passed:
        return None
    fixed = anchor or champion
    evaluation = evidence(challenger, champion, holdout)
    compared = compare_with_anchor(
        WDBC,
        replace(fixed.model, version="anchor"),
        alone if fixed is champion else by_itself(fixed, holdout),
        evaluation,
        challenger.train,
        holdout,
    )
    return msgspec.structs.replace(evaluation, anchor=compared)


def answering(trained: Trained, change: Callable[[Predict, np.ndarray], np.ndarray]) -> Trained:
    """The same model, spoilt after training."""
    sound = trained.model.positive
    return replace(
        trained, model=replace(trained.model, positive=lambda values: change(sound, values))
    )


def with_threshold(trained: Trained, value: float) -> Trained:
    return replace(trained, model=replace(trained.model, threshold=value))


LOST: dict[str, tuple[int, ...]] = {
    name: tuple(
        index
        for index, feature in enumerate(WDBC.schema.names)
        if any(feature.startswith(start) for start in starts)
    )
    for name, starts in {
        "worst_texture": ("worst_texture",),
        "four features of size": ("mean_radius", "mean_area", "worst_radius", "worst_area"),
        "all ten worst_ features": ("worst_",),
    }.items()
}


def train_without(rows: SplitSide, lost: tuple[int, ...]) -> Trained:
    """A model that never saw the lost features: they are constant for it."""

    def blank(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[:, list(lost)] = 0.0
        return changed

    trained = train(replace(rows, values=blank(rows.values)))
    spoilt = answering(trained, lambda predict, values: predict(blank(values)))
    # The rows as they are: their keys and labels count, and not what was lost.
    return replace(spoilt, train=rows)


def without(name: str) -> Callable[[Predict, np.ndarray], np.ndarray]:
    """Scoring with a feature set to zero, as a lost column would be."""
    column = WDBC.schema.names.index(name)

    def change(predict: Predict, values: np.ndarray) -> np.ndarray:
        spoilt = values.copy()
        spoilt[:, column] = 0.0
        return predict(spoilt)

    return change


Scenario = tuple[str, str, Evaluation | None]
Rows = tuple[np.ndarray, np.ndarray]
"""Positions of the holdout rows, and of the train rows in random order."""


def pinned(seed: int) -> Rows:
    """The pipeline's own split."""
    policy = WDBC.split
    position = np.array([hash_position(policy.salt, key) for key in row_keys(REFERENCE.values)])
    is_holdout = position < policy.holdout_share
    train_rows = np.flatnonzero(~is_holdout)
    return np.flatnonzero(is_holdout), np.random.default_rng(seed).permutation(train_rows)


def drawn(seed: int) -> Rows:
    """A fresh holdout."""
    order = np.random.default_rng(seed).permutation(len(POSITIVE))
    return order[:HOLDOUT_ROWS], order[HOLDOUT_ROWS:]


def refreshes(rows: Rows) -> Iterator[Scenario]:
    """The same recipe on other rows of the same source."""
    holdout, pool = rows_at(rows[0]), rows[1]
    everything = train(rows_at(np.sort(pool)))
    yield "refresh, the same rows", "pass", judge(everything, everything, holdout)
    for name, earlier in (
        ("a week of new rows", pool[:-WEEK]),
        ("13 weeks of new rows", pool[: -13 * WEEK]),
        ("80 % of the rows, then all", pool[: len(pool) * 4 // 5]),
        ("half of the rows, then all", pool[: len(pool) // 2]),
    ):
        champion = train(rows_at(np.sort(earlier)))
        yield f"refresh, {name}", "pass", judge(champion, everything, holdout)


def damage(seed: int, rows: Rows) -> Iterator[Scenario]:
    """Champion and challenger of the same rows, and something lost."""
    holdout, pool = rows_at(rows[0]), rows[1]
    draw = np.random.default_rng(seed)
    most = rows_at(np.sort(pool[: len(pool) * 4 // 5]))
    champion = train(most)

    def against(challenger: Trained) -> Evaluation | None:
        return judge(champion, challenger, holdout)

    for share in (0.02, 0.05, 0.10, 0.20):
        flipped = most.positive.copy()
        wrong = draw.choice(len(most), round(share * len(most)), replace=False)
        flipped[wrong] = 1 - flipped[wrong]
        yield f"{share:.0%} of labels flipped", "reject", against(train(most, labels=flipped))
    for name, lost in LOST.items():
        yield f"trained without {name}", "reject", against(train_without(most, lost))
    for count in (30, 60):
        with suppress(DataError):  # too few rows of a class: they cannot be trained on
            yield f"trained on {count} rows", "reject", against(train(rows_at(pool[:count])))
    for name in ("worst_texture", "worst_radius", "worst_concave_points"):
        spoilt = answering(champion, without(name))
        yield f"{name} zero when scoring", "reject", against(spoilt)
    for value in (0.02, 0.98):
        yield f"threshold moved to {value}", "reject", against(with_threshold(champion, value))
    inverted = answering(champion, lambda predict, values: 1.0 - predict(values))
    yield "probabilities inverted", "reject", against(inverted)
    constant = answering(champion, lambda _, values: np.full(len(values), 0.37))
    yield "constant probability", "reject", against(constant)


def first_models(seed: int, is_pinned: bool) -> Iterator[Scenario]:
    """The first model of a volume, on all rows and on few."""
    order = np.random.default_rng(seed).permutation(len(POSITIVE))
    is_holdout = np.zeros(len(POSITIVE), dtype=bool)
    is_holdout[pinned(seed)[0]] = True
    for rows, expected in ((len(order), "pass"), (228, "pass"), (100, "reject")):
        size, some = round(0.2 * rows), order[:rows]
        sides = (
            (some[is_holdout[some]], some[~is_holdout[some]])
            if is_pinned
            else (some[:size], some[size:])
        )
        holdout, pool = (rows_at(side) for side in sides)
        yield f"first model, {rows} rows in all", expected, evidence(train(pool), None, holdout)


def switches(rows: Rows) -> Iterator[Scenario]:
    """Another recipe: a few, since the cross-validation of the others takes seconds."""
    holdout, pool = rows_at(rows[0]), rows_at(np.sort(rows[1][: len(rows[1]) * 4 // 5]))
    logistic, svm = train(pool), train(pool, "svm_rbf")
    yield "switch, logistic to SVM (near a tie)", "mostly reject", judge(logistic, svm, holdout)
    yield "switch, SVM to logistic (near a tie)", "mostly reject", judge(svm, logistic, holdout)


def _share(number: int, trials: int) -> str:
    return f"{number / trials:.0%}" if trials else ""


@dataclass
class Tally:
    expected: str
    trials: int = 0
    passed: int = 0
    better: int = 0
    old_rule: int = 0
    f1: list[float] = field(default_factory=list)
    brier: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, evaluation: Evaluation) -> None:
        verdict = decide(WDBC.gate, WDBC.labels, evaluation, SMOKE)
        self.trials += 1
        self.passed += verdict.passed
        self.failed.update(check.name for check in verdict.checks if not check.passed)
        if evaluation.champion is None:
            return
        new, old = evaluation.challenger.holdout.metrics, evaluation.champion.holdout.metrics
        self.better += verdict.better
        self.old_rule += new["f1"] >= old["f1"]
        self.f1.append(new["f1"] - old["f1"])
        self.brier.append(new["brier"] - old["brier"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=110.0, help="stop starting trials then")
    parser.add_argument("--first", type=int, default=20, help="replays of a first model")
    parser.add_argument("--switches", type=int, default=6, help="trials of the switch")
    parser.add_argument("--pinned", action="store_true", help="the pipeline's own holdout")
    options = parser.parse_args()
    draw = pinned if options.pinned else drawn
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    started = time.monotonic()
    tallies: dict[str, Tally] = {}

    def run(scenarios: Iterator[Scenario]) -> None:
        for name, expected, evaluation in scenarios:
            tally = tallies.setdefault(name, Tally(expected))
            if evaluation is not None:
                tally.add(evaluation)

    for seed in range(FIRST_SEED, FIRST_SEED + options.first):
        run(first_models(seed, options.pinned))
    for seed in range(FIRST_SEED, FIRST_SEED + options.switches):
        run(switches(draw(seed)))
    for seed in range(FIRST_SEED, FIRST_SEED + options.trials):
        if time.monotonic() - started > options.seconds:
            break
        rows = draw(seed)
        run(refreshes(rows))
        run(damage(seed, rows))

    which = "the pinned holdout" if options.pinned else f"a fresh holdout of {HOLDOUT_ROWS} rows"
    table = Table(title=f"The gate, {which}")
    for heading in (
        "scenario",
        "ought to",
        "trials",
        "passed",
        "better",
        "F1 diff.",
        "Brier diff.",
        "old rule",
        "failed most often",
    ):
        table.add_column(heading, overflow="fold")
    for name, tally in tallies.items():
        often = ", ".join(f"{check} {n}" for check, n in tally.failed.most_common(3))
        table.add_row(
            name,
            tally.expected,
            str(tally.trials),
            _share(tally.passed, tally.trials),
            _share(tally.better, tally.trials),
            *(
                (
                    f"{np.mean(tally.f1):+.3f}",
                    f"{np.mean(tally.brier):+.4f}",
                    _share(tally.old_rule, tally.trials),
                )
                if tally.f1
                else ("", "", "")
            ),
            often,
        )
    Console(width=150).print(table)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
