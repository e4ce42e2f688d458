"""Whether rows in the order in which they came show that another recipe is better.

Nothing is stored between runs: the order of the rows follows from the batches, and no later row
changes the prediction of an earlier one. So a repeated run counts no row twice, a backfill has the
evidence of its as-of time, and the gate can compute all of it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bc_pipeline.artifacts.evidence import SequentialEvidence
from bc_pipeline.data.arrival_order import arrival_order
from bc_pipeline.evaluation.sequential import sequential_evidence
from bc_pipeline.promotion.recipe_gain import sequential_gain
from bc_pipeline.training.prequential import prequential_probability
from bc_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from bc_pipeline.data.split import SplitSide
    from bc_pipeline.problems.base import Candidate


def compare_on_new_rows(
    workspace: Workspace,
    batches: Sequence[str],
    train: SplitSide,
    champion: Candidate,
    challengers: Sequence[Candidate],
) -> list[SequentialEvidence]:
    """Evidence for each challenger's recipe against the champion's.

    Parameters
    ----------
    batches : sequence of str
        That `train` comes from.
    champion : Candidate
        The champion's recipe, as this code builds it.
    """
    problem = workspace.problem
    rows = train.take(arrival_order(problem, workspace.store, batches, train.keys))
    theirs, *ours = (
        prequential_probability(candidate, problem.selection.seed, rows, workspace.settings.threads)
        for candidate in (champion, *challengers)
    )
    recipes = sum(candidate.recipe != champion.recipe for candidate in problem.candidates)
    return [
        sequential_evidence(rows.positive, theirs, probability, max(recipes, 1))
        for probability in ours
    ]


def shown_better(
    workspace: Workspace,
    batches: Sequence[str],
    train: SplitSide,
    champion: Candidate,
    challengers: Sequence[Candidate],
) -> list[Candidate]:
    """The challengers for which the gate has enough evidence of new rows, the strongest first."""
    evidence = compare_on_new_rows(workspace, batches, train, champion, challengers)
    qualified = [
        (each.log_e, candidate)
        for each, candidate in zip(evidence, challengers, strict=True)
        if sequential_gain(workspace.problem.gate, each)
    ]
    return [candidate for _, candidate in sorted(qualified, key=lambda one: -one[0])]
