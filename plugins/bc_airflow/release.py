"""The release task: promote, or skip with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from bc_airflow.runs import run_of
from bc_airflow.volume import volume_of
from bc_pipeline import steps
from bc_pipeline.errors import NotReleasable
from bc_pipeline.settings import Settings, load_settings

APPROVAL_TASK = "approve"
NOBODY = "nobody, in time"
Decision = Mapping[str, Any]


def why_not_released(run: steps.Run, decision: Decision) -> str:
    """The reason not to release the version in this run; empty where there is none."""
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
    context, settings = get_current_context(), load_settings()
    run, version = run_of(problem), decision["version"]
    reason = why_not_released(run, decision)
    if reason:
        raise AirflowSkipException(reason)
    approved_by = None
    volume = volume_of(settings, problem)
    if context["params"]["require_approval"] and not volume.is_champion(version):
        approval = context["ti"].xcom_pull(task_ids=APPROVAL_TASK)
        approved_by = _record_approval(settings, run, version, approval)
    try:
        released = steps.promote(settings, run, version, approved_by=approved_by)
    except NotReleasable as error:
        # For example, a person rejected the same version in an earlier run.
        raise AirflowSkipException(str(error)) from None
    # A try that died after the promotion did not update the Asset: the next one does.
    if not released["changed"] and context["ti"].try_number == 1:
        raise AirflowSkipException(f"{version} is the champion already, or was one.")
    context["outlet_events"][champion].extra = {
        "version": version,
        "generation": released["generation"],
    }
    return released


def _record_approval(
    settings: Settings, run: steps.Run, version: str, approval: Mapping[str, Any] | None
) -> str:
    """Write the decision to the audit log, and return who approved the version.

    Not in the task `approve`, which would ask again on a second try.

    Raises
    ------
    AirflowSkipException
        Where it was not approved.
    """
    if approval is None:
        raise AirflowFailException(f"{version} needs an approval, and there is none.")
    by = approval["by"]
    steps.approve(settings, run, version, approval["digest"], approval["approved"], by or NOBODY)
    if not approval["approved"]:
        raise AirflowSkipException(
            f"{by} rejected {version}." if by else f"Nobody answered for {version} in time."
        )
    return str(by)
