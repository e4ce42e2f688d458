"""Checks of the loss since the anchor: what a chain of small steps lost together."""

from __future__ import annotations

from collections.abc import Iterator

from bc_pipeline.artifacts.evidence import AnchorComparison
from bc_pipeline.artifacts.verdict import Check
from bc_pipeline.errors import counted
from bc_pipeline.problems.policies import GatePolicy, Margin
from bc_pipeline.promotion.check import at_least, is_known, missing_note
from bc_pipeline.promotion.model_checks import metric_text, rows_text

_REMEDY = "`bc-pipeline anchor set VERSION --reason TEXT` sets an anchor that can be opened."


def anchor_checks(policy: GatePolicy, anchor: AnchorComparison) -> Iterator[Check]:
    """One check for each bound on the loss; one in their place where nothing was compared.

    A first champion whose files are gone, as on a volume of an earlier release, is passed over. An
    anchor that a person set must be there.
    """
    if anchor.note:
        yield Check(
            "anchor",
            f"no more lost since the anchor {anchor.version} than the policy allows",
            passed=not anchor.required,
            note=f"Not compared: {anchor.note} {_REMEDY}",
        )
        return
    for margin in policy.anchor_margins:
        yield _loss(policy, margin, anchor)


def _loss(policy: GatePolicy, margin: Margin, anchor: AnchorComparison) -> Check:
    compared = anchor.holdout if margin.rows == "holdout" else anchor.cross_validation
    matching = [each for each in compared if each.metric == margin.metric]
    gain = matching[0].gain if matching else None
    interval = matching[0].interval if matching else None
    high = interval.high if interval is not None else None
    note = missing_note(gain, high) or f"Anchor: {anchor.version}."
    if margin.rows == "cross_validation":
        note += f" {counted(anchor.shared_rows, 'train row')} that both have, out of fold."
    return Check(
        f"anchor_{margin.rows}_{margin.metric}",
        f"{metric_text(margin.metric)} {rows_text(margin.rows)} at most {margin.margin:g} worse "
        f"than the anchor's, and the {policy.level:.0%} interval of the gain reaching "
        f"{0.0 - margin.negligible:g} or more",
        is_known(gain, high)
        and at_least(gain, -margin.margin)
        and at_least(high, -margin.negligible),
        champion=matching[0].champion if matching else None,
        challenger=matching[0].challenger if matching else None,
        interval=interval,
        bound=margin.margin,
        note=note,
    )
