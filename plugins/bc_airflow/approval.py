"""A person's decision between the gate and the release, in a DAG of its own.

A run of the retrain DAG that waits for days would keep every later retrain from starting. So it
ends when it has requested the approval, and a run of the approval DAG waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.configuration import conf
from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from bc_airflow.conclude import conclude, skip
from bc_airflow.defaults import APPROVAL_TIMEOUT
from bc_airflow.question import question
from bc_airflow.release import needs_approval, why_not_released
from bc_airflow.runs import run_of
from bc_airflow.users import one_user
from bc_airflow.volume import Judged, Volume, volume_of
from bc_pipeline.conclusion import Conclusion, approval_run_id
from bc_pipeline.settings import load_settings

_DIGEST_KEY = "asked_digest"


def answer_params() -> dict[str, Param]:
    """What a person may add to the answer."""
    return {
        "reason": Param(
            "",
            type=["null", "string"],
            title="Reason",
            description="Why, for the audit log; no data of patients.",
        )
    }


class RequestApproval(TriggerDagRunOperator):
    """Start a run of the approval DAG for the winner; skipped where no approval is needed.

    Parameters
    ----------
    problem : str
    decision : XComArg
        What `choose` returned: the winner's decision.
    """

    template_fields: Sequence[str] = (*TriggerDagRunOperator.template_fields, "decision")

    def __init__(self, *, problem: str, decision: Any, **kwargs: Any) -> None:
        super().__init__(
            trigger_dag_id=f"{problem}_approval",
            logical_date=None,
            reset_dag_run=True,
            # A run of a paused DAG would wait, and nothing would say why.
            fail_when_dag_is_paused=True,
            openlineage_inject_parent_info=False,
            **kwargs,
        )
        self.problem = problem
        self.decision = decision

    def execute(self, context: Any) -> Any:
        run, version = run_of(self.problem), self.decision["version"]
        if why_not_released(run, self.decision):
            raise AirflowSkipException("There is nothing to approve: see the task Promote.")
        if not needs_approval(run, version):
            raise AirflowSkipException("Neither the problem nor this run requires an approval.")
        self.trigger_run_id = approval_run_id(run.run_id)
        self.conf = {"version": version, "digest": self.decision["digest"]}
        conclude(
            Conclusion.AWAITING_APPROVAL,
            f"{version} is staged; the run {self.trigger_run_id} of {self.trigger_dag_id} waits "
            "for a person's decision under Required Actions.",
        )
        return super().execute(context)


class ApproveRelease(ApprovalOperator):
    """Ask whether a version may be promoted; skipped where it is no question any more.

    The question names the version and the digest of its manifest, and the answer is valid only
    for that digest. The task returns ``{version, digest, approved, by, reason, conclusion}``, on
    which the task `promote` acts. No answer in time is a rejection, which `conclusion` names.

    Parameters
    ----------
    problem : str
    """

    template_fields: ClassVar[Sequence[str]] = ("subject", "body")
    template_fields_renderers: ClassVar[dict[str, str]] = {"body": "md"}

    def __init__(self, *, problem: str, **kwargs: Any) -> None:
        super().__init__(
            subject="May the challenger be promoted?",
            defaults=self.REJECT,
            response_timeout=APPROVAL_TIMEOUT,
            **kwargs,
        )
        # `response_timeout` bounds the wait for a person; this would fail the task before.
        self.execution_timeout = None
        self.problem = problem

    def execute(self, context: Any) -> Any:
        version, digest = context["params"]["version"], context["params"]["digest"]
        volume = volume_of(load_settings(), self.problem)
        judged = volume.judged(version)
        if digest and digest != judged.manifest_sha256:
            raise AirflowFailException(
                f"The manifest of {version} is {judged.manifest_sha256}, and the approval was "
                f"requested for {digest}."
            )
        _require_open_question(volume, judged)
        self.subject = f"Promote {version}?"
        self.body = question(
            judged,
            volume.champion_of(judged),
            conf.get("api", "base_url", fallback="").rstrip("/"),
            _who_may_decide(volume, version),
        )
        context["ti"].xcom_push(key=_DIGEST_KEY, value=judged.manifest_sha256)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        # ApprovalOperator's method would skip `promote`, and not return who decided.
        answer = HITLOperator.execute_complete(self, context, event)
        version, volume = context["params"]["version"], volume_of(load_settings(), self.problem)
        digest = context["ti"].xcom_pull(task_ids=self.task_id, key=_DIGEST_KEY)
        judged = volume.judged(version)
        if digest != judged.manifest_sha256:
            raise AirflowFailException(
                "The answer was about another model than the one that now waits. "
                "Clear this task to ask again."
            )
        user = answer["responded_by_user"] or {}
        name = user.get("name") or user.get("id")
        approved = name is not None and answer["chosen_options"] == [self.APPROVE]
        if approved and not one_user() and name in volume.requesters(version):
            reason = (
                f"{name} requested {version}, so another person must approve it. "
                "Clear the task Approve to ask again."
            )
            conclude(Conclusion.NOT_RELEASABLE, reason)
            raise AirflowFailException(reason)
        return {
            "version": version,
            "digest": digest,
            "approved": approved,
            "by": name,
            "reason": answer["params_input"].get("reason") or "",
            "conclusion": _conclusion(volume, judged, name, approved=approved),
        }


def _conclusion(volume: Volume, judged: Judged, name: str | None, *, approved: bool) -> str | None:
    """How the run ends without a release; None where the version is to be promoted."""
    if volume.why_superseded(judged):
        return Conclusion.SUPERSEDED
    if approved:
        return None
    return Conclusion.APPROVAL_REFUSED if name else Conclusion.APPROVAL_EXPIRED


def _require_open_question(volume: Volume, judged: Judged) -> None:
    """Skip where the version cannot be promoted, whatever anybody answers."""
    version = judged.manifest.version
    if volume.is_champion(version):
        skip(Conclusion.ALREADY_RELEASED, f"{version} is the champion already.")
    if not judged.verdict.passed:
        skip(Conclusion.GATE_FAILED, f"The gate rejected {version}.")
    if not judged.manifest.lineage.live:
        skip(Conclusion.VERDICT_ONLY, f"{version} comes from a backfilled run.")
    if superseded := volume.why_superseded(judged):
        skip(Conclusion.SUPERSEDED, superseded)


def _who_may_decide(volume: Volume, version: str) -> list[str]:
    requested = sorted(volume.requesters(version))
    if not requested:
        return ["The schedule trained it; any user who may edit the DAG can decide."]
    named = " and ".join(requested)
    if reason := one_user():
        return [f"Requested by {named}, who may decide, too: {reason}"]
    return [f"Requested by {named}: another person must approve it."]
