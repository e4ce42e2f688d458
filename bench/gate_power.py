"""How often does the gate let an equal model pass, and how often a worse one?

Each trial draws a fresh holdout of 110 rows from the public 569, as large as the pinned
one, and trains on the rest. Champion and challenger go through the project's own folds,
threshold rule, evaluation and gate; a champion that the gate would not have let in is left
out, which is why the trials differ. "Old rule" is what the gate replaces: F1 on the
holdout at least the champion's.

    python bench/gate_power.py [--trials 60] [--seconds 110]
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import structlog
from rich.console import Console
from rich.table import Table

from bc_pipeline.artifacts.evidence import Evaluation, Parity, Smoke
from bc_pipeline.evaluation.build import ModelUnderTest, Predict, evaluate
from bc_pipeline.problems import get_problem
from bc_pipeline.promotion.gate import decide
from bc_pipeline.training.folds import assign_folds
from bc_pipeline.training.select import sensitivity_threshold

WDBC = get_problem("wdbc")
REFERENCE = WDBC.load_reference()
POSITIVE = WDBC.labels.to_positive(REFERENCE.codes)
HOLDOUT_ROWS = 110
WEEK = 4
# The policy's bounds were picked on the draws 0 to 109: these are others.
FIRST_SEED = 1000
PARITY = Parity(rows=1000, worst_difference=0.0, flips=0)
SMOKE = Smoke(passed=True, rows=20, worst_difference=0.0, median_ms=1.0)


@dataclass(frozen=True)
class Rows:
    keys: tuple[str, ...]
    values: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, index: np.ndarray) -> Rows:
        return cls(tuple(f"row{i}" for i in index), REFERENCE.values[index], POSITIVE[index])


@dataclass(frozen=True)
class Trained:
    """A model with the cross-validation that set its threshold."""

    model: ModelUnderTest
    train: Rows
    oof: np.ndarray
    losses: np.ndarray


def train(rows: Rows, candidate: str = "logistic", labels: np.ndarray | None = None) -> Trained:
    """Cross-validate, set the threshold and fit, as the pipeline does."""
    recipe, policy = WDBC.candidate(candidate), WDBC.selection
    given = rows.positive if labels is None else labels
    folds = assign_folds(rows.keys, given, policy)
    oof = np.empty(folds.shape)
    for repeat, fold_of in enumerate(folds):
        for fold in range(policy.folds):
            out = fold_of == fold
            fitted = recipe.build(recipe.params, policy.seed).fit(rows.values[~out], given[~out])
            oof[repeat, out] = fitted.predict_proba(rows.values[out])[:, 1]
    squares = (oof - given) ** 2
    losses = np.array(
        [
            [s[f == fold].mean() for fold in range(policy.folds)]
            for s, f in zip(squares, folds, strict=True)
        ]
    )
    pooled = oof.mean(axis=0)
    fitted = recipe.build(recipe.params, policy.seed).fit(rows.values, given)

    def predict(values: np.ndarray) -> np.ndarray:
        return fitted.predict_proba(values)[:, 1]

    model = ModelUnderTest(
        version=f"{candidate}-{len(rows.keys)}",
        recipe=recipe.recipe,
        title=recipe.title,
        dataset="d",
        as_of="2026-01-01T00:00:00Z",
        schema_fingerprint=WDBC.schema.fingerprint,
        threshold=sensitivity_threshold(
            SimpleNamespace(pooled=pooled, positive=given), policy.sensitivity_target
        ),
        predict=predict,
    )
    return Trained(model, replace(rows, positive=given), pooled, losses)


def judge(champion: Trained, challenger: Trained, holdout: Rows) -> Evaluation | None:
    """Evidence, or None where the champion could not have come into production."""
    losses = {side.model.recipe: side.losses for side in (champion, challenger)}

    def evidence(new: Trained, old: Trained | None) -> Evaluation:
        return evaluate(
            WDBC,
            challenger=replace(new.model, version="challenger"),
            champion=replace(old.model, version="champion") if old else None,
            champion_generation=1,
            train=new.train,
            holdout=holdout,
            oof_probability=new.oof,
            losses=losses,
            parity=PARITY,
        )

    if not decide(WDBC.gate, evidence(champion, None), SMOKE).passed:
        return None
    return evidence(challenger, champion)


def answering(trained: Trained, change: Callable[[Predict, np.ndarray], np.ndarray]) -> Trained:
    """The same model, spoilt after training."""
    sound = trained.model.predict
    return replace(
        trained, model=replace(trained.model, predict=lambda values: change(sound, values))
    )


def with_threshold(trained: Trained, value: float) -> Trained:
    return replace(trained, model=replace(trained.model, threshold=value))


def without(name: str) -> Callable[[Predict, np.ndarray], np.ndarray]:
    """Scoring with a feature set to zero, as a lost column would be."""
    column = WDBC.schema.names.index(name)

    def change(predict: Predict, values: np.ndarray) -> np.ndarray:
        spoilt = values.copy()
        spoilt[:, column] = 0.0
        return predict(spoilt)

    return change


Scenario = tuple[str, str, Evaluation | None]


def trial(seed: int) -> Iterator[Scenario]:
    """Scenario, what ought to happen, evidence."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(POSITIVE))
    holdout, pool = Rows.of(order[:HOLDOUT_ROWS]), order[HOLDOUT_ROWS:]
    everything = train(Rows.of(pool))

    def against(champion: Trained, challenger: Trained) -> Evaluation | None:
        return judge(champion, challenger, holdout)

    last_week = train(Rows.of(pool[:-WEEK]))
    yield "refresh, a week of new rows", "pass", against(last_week, everything)
    quarter = train(Rows.of(pool[: -13 * WEEK]))
    yield "refresh, 13 weeks of new rows", "pass", against(quarter, everything)
    half = train(Rows.of(pool[: len(pool) // 2]))
    yield "refresh, twice the rows", "pass", against(half, everything)
    first = train(Rows.of(np.sort(draw.choice(pool, 367, replace=False))))
    second = train(Rows.of(np.sort(draw.choice(pool, 367, replace=False))))
    yield "refresh, two draws of 80 % of the rows", "pass", against(first, second)

    yield "truly worse: 30 train rows", "reject", against(everything, train(Rows.of(pool[:30])))
    yield "truly worse: 60 train rows", "reject", against(everything, train(Rows.of(pool[:60])))
    for share in (0.02, 0.30):
        flipped = everything.train.positive.copy()
        wrong = draw.choice(len(pool), int(share * len(pool)), replace=False)
        flipped[wrong] = 1 - flipped[wrong]
        worse = train(Rows.of(pool), labels=flipped)
        yield f"truly worse: {share:.0%} of labels flipped", "reject", against(everything, worse)
    for name in ("worst_texture", "worst_radius", "worst_concave_points"):
        lost = answering(everything, without(name))
        yield f"degraded: {name} lost", "reject", against(everything, lost)
    for value in (0.02, 0.98):
        moved = with_threshold(everything, value)
        yield f"degraded: threshold moved to {value}", "reject", against(everything, moved)
    inverted = answering(everything, lambda predict, values: 1.0 - predict(values))
    yield "degraded: probabilities inverted", "reject", against(everything, inverted)
    constant = answering(everything, lambda _, values: np.full(len(values), 0.37))
    yield "degraded: constant probability", "reject", against(everything, constant)


def switches(seed: int) -> Iterator[Scenario]:
    """Another recipe: a few, since the cross-validation of the others takes seconds."""
    order = np.random.default_rng(seed).permutation(len(POSITIVE))
    holdout, pool = Rows.of(order[:HOLDOUT_ROWS]), Rows.of(order[HOLDOUT_ROWS:])
    logistic, svm = train(pool), train(pool, "svm_rbf")
    yield "switch, logistic to SVM (near a tie)", "mostly reject", judge(logistic, svm, holdout)
    yield "switch, SVM to logistic (near a tie)", "mostly reject", judge(svm, logistic, holdout)


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
        verdict = decide(WDBC.gate, evaluation, SMOKE)
        new, old = evaluation.challenger.holdout.metrics, evaluation.champion.holdout.metrics
        self.trials += 1
        self.passed += verdict.passed
        self.better += verdict.better
        self.old_rule += new["f1"] >= old["f1"]
        self.f1.append(new["f1"] - old["f1"])
        self.brier.append(new["brier"] - old["brier"])
        self.failed.update(check.name for check in verdict.checks if not check.passed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=110.0, help="stop starting trials then")
    parser.add_argument("--switches", type=int, default=6, help="trials of the switch")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    started = time.monotonic()
    tallies: dict[str, Tally] = {}

    def run(scenarios: Iterator[Scenario]) -> None:
        for name, expected, evaluation in scenarios:
            tally = tallies.setdefault(name, Tally(expected))
            if evaluation is not None:
                tally.add(evaluation)

    for seed in range(FIRST_SEED, FIRST_SEED + given.switches):
        run(switches(seed))
    for seed in range(FIRST_SEED, FIRST_SEED + given.trials):
        if time.monotonic() - started > given.seconds:
            break
        run(trial(seed))

    table = Table(title=f"The gate at {HOLDOUT_ROWS} holdout rows")
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
            f"{tally.passed / tally.trials:.0%}",
            f"{tally.better / tally.trials:.0%}",
            f"{np.mean(tally.f1):+.3f}",
            f"{np.mean(tally.brier):+.4f}",
            f"{tally.old_rule / tally.trials:.0%}",
            often,
        )
    Console(width=150).print(table)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
