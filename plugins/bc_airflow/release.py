"""The release task: promote, or say why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from bc_airflow.runs import run_of
from bc_airflow.volume import volume_of
from bc_pipeline import steps
from bc_pipeline.errors import NotReleasable

APPROVAL_TASK = "approve"
NOBODY = "nobody, in time"
Decision = Mapping[str, Any]


def why_not_released(run: steps.Run, decision: Decision) -> str:
    """Why the version may not become the champion in this run; empty where it may."""
    if not decision["passed"]:
        return f"The gate rejected {decision['version']}: {'; '.join(decision['reasons'])}"
    if not run.live:
        return "A backfilled run does not move the champion (Param promote_backfill is off)."
    return ""


def promote_or_skip(problem: str, decision: Decision, champion: Asset) -> dict[str, Any]:
    """Make the version the champion and update its Asset.

    Raises
    ------
    AirflowSkipException
        Where the version was rejected, or is or was the champion: no Asset is updated.
    """
    context = get_current_context()
    run, version = run_of(problem), decision["version"]
    reason = why_not_released(run, decision)
    if reason:
        raise AirflowSkipException(reason)
    approved_by = None
    if context["params"]["require_approval"] and not volume_of(problem).is_champion(version):
        approved_by = _approver(run, version, context["ti"].xcom_pull(task_ids=APPROVAL_TASK))
    try:
        released = steps.promote(run, version, approved_by=approved_by)
    except NotReleasable as error:
        # A person rejected the same version in an earlier run, say.
        raise AirflowSkipException(str(error)) from None
    # A try that died after it had moved the pointer has told nobody: tell on the next one.
    if not released["changed"] and context["ti"].try_number == 1:
        raise AirflowSkipException(f"{version} is the champion already, or was one.")
    context["outlet_events"][champion].extra = {
        "version": version,
        "generation": released["generation"],
    }
    return released


def _approver(run: steps.Run, version: str, approval: Mapping[str, Any] | None) -> str:
    """Who approved the version; the answer goes to the audit log, whichever it is.

    Here and not in `approve`: a second try of that task would ask once more.
    """
    if approval is None:
        raise AirflowFailException(f"{version} needs an approval, and there is none.")
    by = approval["by"]
    steps.approve(run, version, approval["digest"], approval["approved"], by or NOBODY)
    if not approval["approved"]:
        raise AirflowSkipException(
            f"{by} rejected {version}." if by else f"Nobody answered for {version} in time."
        )
    return str(by)
