"""A person's decision between the gate and the release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.exceptions import AirflowException
from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk.exceptions import AirflowSkipException

from bc_airflow.defaults import APPROVAL_TIMEOUT
from bc_airflow.release import why_not_released
from bc_airflow.runs import run_of
from bc_airflow.text import number, outcome
from bc_airflow.volume import Judged, volume_of

_ASKED = "asked_digest"


class ApproveRelease(ApprovalOperator):
    """Ask whether the challenger may be promoted; where nothing is to be asked, be skipped.

    The question names the version and the digest of its manifest, and an answer counts only
    for that digest. No answer in time is a rejection. The task succeeds either way and
    returns ``{approved, by, at, digest}``; what follows from it is `promote`'s to do.

    Parameters
    ----------
    problem : str
    decision : XComArg
        What `decide` returned.
    """

    template_fields: ClassVar[Sequence[str]] = ("subject", "body", "decision")
    template_fields_renderers: ClassVar[dict[str, str]] = {"body": "md", "decision": "json"}

    def __init__(self, *, problem: str, decision: Any, **kwargs: Any) -> None:
        super().__init__(
            subject="May the challenger be promoted?",
            defaults=self.REJECT,
            response_timeout=APPROVAL_TIMEOUT,
            **kwargs,
        )
        # The time that a person takes is bounded above; this would end the asking instead.
        self.execution_timeout = None
        self.problem = problem
        self.decision = decision

    def execute(self, context: Any) -> Any:
        reason = self._why_not_asked(context)
        if reason:
            raise AirflowSkipException(reason)
        judged = volume_of(self.problem).judged(self.decision["version"])
        self.subject = f"Promote {judged.manifest.version}?"
        self.body = question(judged)
        context["ti"].xcom_push(key=_ASKED, value=judged.manifest_sha256)
        return super().execute(context)

    def _why_not_asked(self, context: Any) -> str:
        reason = why_not_released(run_of(self.problem), self.decision)
        if not reason and not context["params"]["require_approval"]:
            reason = "This run does not require approval."
        if not reason and volume_of(self.problem).is_champion(self.decision["version"]):
            reason = f"{self.decision['version']} is the champion already."
        return reason

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        # Not ApprovalOperator's: it would skip `promote` without a word about who and why.
        answer = HITLOperator.execute_complete(self, context, event)
        ti = context["ti"]
        asked = ti.xcom_pull(task_ids=self.task_id, key=_ASKED)
        if asked != self.decision["digest"]:
            raise AirflowException(
                "The answer was about another model than the one that now waits. "
                "Clear this task to ask again."
            )
        user = answer["responded_by_user"] or {}
        return {
            "approved": answer["chosen_options"] == [self.APPROVE],
            "by": user.get("name") or user.get("id"),
            "at": answer["responded_at"].isoformat(),
            "digest": asked,
        }


def question(judged: Judged) -> str:
    """The verdict in Markdown, for the person who decides."""
    verdict = judged.verdict
    rows = "\n".join(
        f"| {check.name} | {_cell(check.rule)} | {number(check.champion)} "
        f"| {number(check.challenger)} | {outcome(check.passed, check.blocking)} |"
        for check in verdict.checks
    )
    against = f"against champion `{verdict.champion}`" if verdict.champion else "with no champion"
    return (
        f"Version `{judged.manifest.version}` ({judged.manifest.recipe.title}) passed the gate "
        f"({verdict.kind}, {against}).\n\n"
        f"SHA-256 of its manifest: `{judged.manifest_sha256}`\n\n"
        "| Check | Rule | Champion | Challenger | Result |\n|---|---|---|---|---|\n"
        f"{rows}\n\n"
        "Approve to make it the model that answers and scores. Reject, or no answer in time, "
        "keeps the champion. For research use; not a medical device."
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
