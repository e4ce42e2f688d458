"""How much can a chain of small steps lose, with and without the anchor?

Each replay draws a fresh holdout of 110 rows. The chain tries to lose the ten `worst_` features one
after the other; a step that passes the gate makes the next champion. The loss is in what the models
are trained on and see, as where a source stops delivering columns that nobody looks at, and counts
as a refresh. Honest chains of growing data are judged beside it.

    python bench/anchor.py [--replays 12]
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import structlog
from gate_power import SMOKE, WDBC, Trained, drawn, judge, rows_at, train, train_without
from rich.console import Console
from rich.table import Table

from bc_pipeline.data.split import SplitSide
from bc_pipeline.promotion.gate import decide

FIRST_SEED = 3000
WORST = [index for index, name in enumerate(WDBC.schema.names) if name.startswith("worst_")]
WITHOUT_ANCHOR = replace(WDBC.gate, anchor_margins=())


def passes(
    champion: Trained, challenger: Trained, anchor: Trained, holdout: SplitSide
) -> list[bool]:
    """Without the anchor and with it; empty where the champion would not have passed."""
    evaluation = judge(champion, challenger, holdout, anchor)
    if evaluation is None:
        return []
    return [
        decide(policy, WDBC.labels, evaluation, SMOKE).passed
        for policy in (WITHOUT_ANCHOR, WDBC.gate)
    ]


def lose_stepwise(
    order: np.ndarray, pool: SplitSide, holdout: SplitSide, first: Trained, *, with_anchor: bool
) -> tuple[int, float]:
    """Number of features lost, and the last champion's Brier score over the first one's."""
    champion, lost = first, ()
    for feature in order:
        challenger = train_without(pool, (*lost, int(feature)))
        verdict = passes(champion, challenger, first, holdout)
        if verdict and verdict[with_anchor]:
            champion, lost = challenger, (*lost, int(feature))
    return len(lost), champion.losses.mean() / first.losses.mean()


def honest(draw: np.ndarray, holdout: SplitSide) -> Iterator[tuple[str, list[bool]]]:
    """Anchors of fewer rows, or of other rows, and refreshes that lost nothing."""
    half, most, everything = (
        train(rows_at(draw[:count])) for count in (len(draw) // 2, len(draw) - 52, len(draw))
    )
    yield "13 weeks of new rows, anchor of half", passes(most, everything, half, holdout)
    yield "twice the rows, anchor is the champion", passes(half, everything, half, holdout)
    other = train(rows_at(draw[-367:]))
    first = train(rows_at(draw[:367]))
    yield "two draws of 80 %, anchor is the champion", passes(first, other, first, holdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replays", type=int, default=12)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    began = time.monotonic()
    chains: dict[bool, list[tuple[int, float]]] = defaultdict(list)
    passed: dict[str, list[list[bool]]] = defaultdict(list)
    for seed in range(FIRST_SEED, FIRST_SEED + options.replays):
        holdout_rows, train_rows = drawn(seed)
        holdout, pool = rows_at(holdout_rows), rows_at(train_rows)
        for name, verdict in honest(train_rows, holdout):
            passed[name] += [verdict] if verdict else []
        first, order = train(pool), np.random.default_rng(seed).permutation(WORST)
        for with_anchor in (False, True):
            chains[with_anchor].append(
                lose_stepwise(order, pool, holdout, first, with_anchor=with_anchor)
            )
    table = Table("what", "without anchor", "with anchor", title=f"{options.replays} replays")
    for index, name in ((0, "worst_ features lost of 10"), (1, "Brier score over the first")):
        means = [f"{np.mean([c[index] for c in chains[w]]):.2f}" for w in (False, True)]
        table.add_row(name, *means)
    for name, verdicts in passed.items():
        shares = np.mean(verdicts, axis=0)
        table.add_row(f"{name} ({len(verdicts)})", *(f"{share:.0%}" for share in shares))
    Console(width=120).print(table)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
