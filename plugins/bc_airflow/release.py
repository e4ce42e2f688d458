"""The release tasks: promote, or skip with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from bc_airflow.conclude import conclude, skip
from bc_airflow.runs import run_of
from bc_airflow.users import one_user
from bc_airflow.volume import volume_of
from bc_pipeline import steps
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.errors import NotReleasable, VersionConflict
from bc_pipeline.settings import load_settings

NOBODY = "nobody, in time"
Decision = Mapping[str, Any]


def why_not_released(run: steps.Run, decision: Decision) -> str:
    """The reason not to release the version in this run; empty where there is none."""
    if not decision["passed"]:
        return f"The gate rejected {decision['version']}: {'; '.join(decision['reasons'])}"
    if not run.live:
        return "A backfilled run does not move the champion (Param promote_backfill is off)."
    return ""


def needs_approval(run: steps.Run, version: str) -> bool:
    """Whether a person must decide first, by policy or because the run requires it."""
    return bool(steps.needs_approval(load_settings(), run, version)["needed"])


def promote_or_skip(problem: str, decision: Decision, champion: Asset) -> dict[str, Any]:
    """Make the version the champion and update its Asset.

    Raises
    ------
    AirflowSkipException
        Where the version was rejected, needs an approval, or is or was the champion: no Asset is
        updated.
    """
    run, version = run_of(problem), decision["version"]
    reason = why_not_released(run, decision)
    if reason:
        rejected = Conclusion(decision.get("conclusion") or Conclusion.GATE_FAILED)
        skip(Conclusion.VERDICT_ONLY if decision["passed"] else rejected, reason)
    if needs_approval(run, version):
        # The task `request_approval` says how the run ends.
        raise AirflowSkipException(f"{version} needs an approval.")
    return _promote(run, version, champion)


def promote_approved_or_skip(
    problem: str, answer: Mapping[str, Any], champion: Asset
) -> dict[str, Any]:
    """Write the decision to the audit log, and promote the version if it was approved.

    Not in the task `approve`, which would ask again on a second try.

    Raises
    ------
    AirflowSkipException
        Where it was not approved, or is superseded.
    """
    settings, run, version = load_settings(), run_of(problem), answer["version"]
    ended = Conclusion(answer["conclusion"]) if answer["conclusion"] else None
    volume = volume_of(settings, problem)
    superseded = volume.why_superseded(volume.judged(version))
    if ended is Conclusion.SUPERSEDED:
        # Nobody decided about this version: there is nothing to write.
        skip(ended, superseded or f"{version} was superseded.")
    by, reason = answer["by"], answer["reason"] or (str(ended) if ended else "")
    steps.approve(
        settings,
        run,
        version,
        answer["digest"],
        answer["approved"],
        by or NOBODY,
        reason,
        one_user(),
    )
    if ended is Conclusion.APPROVAL_REFUSED:
        skip(ended, f"{by} rejected {version}{f': {reason}' if answer['reason'] else '.'}")
    if ended is not None:
        skip(ended, f"Nobody answered for {version} in time. Trigger {problem}_approval to ask.")
    return _promote(run, version, champion)


def _promote(run: steps.Run, version: str, champion: Asset) -> dict[str, Any]:
    context = get_current_context()
    try:
        released = steps.promote(load_settings(), run, version)
    except NotReleasable as error:
        # For example, a person rejected the same version in an earlier run.
        skip(Conclusion.NOT_RELEASABLE, str(error))
    except VersionConflict as error:
        conclude(Conclusion.SUPERSEDED, str(error))
        raise
    # A try that died after the promotion did not update the Asset: the next one does.
    if not released["changed"] and context["ti"].try_number == 1:
        skip(Conclusion.ALREADY_RELEASED, f"{version} is the champion already, or was one.")
    context["outlet_events"][champion].extra = {
        "version": version,
        "generation": released["generation"],
    }
    conclude(
        Conclusion.PROMOTED, f"{version} is the champion, generation {released['generation']}."
    )
    return released
