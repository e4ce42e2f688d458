"""A person's decision between the gate and the release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow.exceptions import AirflowException
from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk.exceptions import AirflowSkipException

from bc_airflow.defaults import APPROVAL_TIMEOUT
from bc_airflow.release import why_not_released
from bc_airflow.runs import run_of
from bc_airflow.text import number, outcome
from bc_airflow.volume import Judged, volume_of
from bc_pipeline.settings import load_settings

_DIGEST_KEY = "asked_digest"


class ApproveRelease(ApprovalOperator):
    """Ask whether the challenger may be promoted; skipped where no approval is needed.

    The question names the version and the digest of its manifest, and the answer is valid only
    for that digest. No answer in time is a rejection. The task succeeds either way and
    returns ``{approved, by, at, digest}``; the task `promote` acts on it.

    Parameters
    ----------
    problem : str
    decision : XComArg
        What `choose` returned: the winner's decision.
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
        # `response_timeout` bounds the wait for a person; this would fail the task before.
        self.execution_timeout = None
        self.problem = problem
        self.decision = decision

    def execute(self, context: Any) -> Any:
        reason = self._skip_reason(context)
        if reason:
            raise AirflowSkipException(reason)
        judged = volume_of(load_settings(), self.problem).judged(self.decision["version"])
        self.subject = f"Promote {judged.manifest.version}?"
        self.body = question(judged, self.decision["challengers"])
        context["ti"].xcom_push(key=_DIGEST_KEY, value=judged.manifest_sha256)
        return super().execute(context)

    def _skip_reason(self, context: Any) -> str:
        reason = why_not_released(run_of(self.problem), self.decision)
        if not reason and not context["params"]["require_approval"]:
            reason = "This run does not require approval."
        if reason:
            return reason
        version = self.decision["version"]
        is_champion = volume_of(load_settings(), self.problem).is_champion(version)
        return f"{version} is the champion already." if is_champion else ""

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        # ApprovalOperator's method would skip `promote`, and not return who decided.
        answer = HITLOperator.execute_complete(self, context, event)
        ti = context["ti"]
        digest = ti.xcom_pull(task_ids=self.task_id, key=_DIGEST_KEY)
        if digest != self.decision["digest"]:
            raise AirflowException(
                "The answer was about another model than the one that now waits. "
                "Clear this task to ask again."
            )
        user = answer["responded_by_user"] or {}
        return {
            "approved": answer["chosen_options"] == [self.APPROVE],
            "by": user.get("name") or user.get("id"),
            "at": answer["responded_at"].isoformat(),
            "digest": digest,
        }


def question(judged: Judged, challengers: Sequence[Mapping[str, Any]]) -> str:
    """The verdict in Markdown, for the person who decides.

    Parameters
    ----------
    challengers : sequence of dict
        Version, kind and result of each challenger of the run, this one among them.
    """
    verdict = judged.verdict
    rows = "\n".join(
        f"| {check.name} | {_cell(check.rule)} | {number(check.champion)} "
        f"| {number(check.challenger)} | {outcome(check.passed, check.blocking)} |"
        for check in verdict.checks
    )
    against = f"against champion `{verdict.champion}`" if verdict.champion else "with no champion"
    note = f"\n\nRecipe: {_cell(verdict.kind_note)}" if verdict.kind_note else ""
    others = "".join(
        f"\n\nAlso judged in this run: `{each['version']}` ({each['kind']}), "
        f"which {'passed too' if each['passed'] else 'was rejected'}."
        for each in challengers
        if each["version"] != judged.manifest.version
    )
    return (
        f"Version `{judged.manifest.version}` ({judged.manifest.recipe.title}) passed the gate "
        f"({verdict.kind}, {against}).{note}{others}\n\n"
        f"SHA-256 of its manifest: `{judged.manifest_sha256}`\n\n"
        "| Check | Rule | Champion | Challenger | Result |\n|---|---|---|---|---|\n"
        f"{rows}\n\n"
        "Approve to make it the model that answers and scores. Reject, or no answer in time, "
        "keeps the champion. For research use; not a medical device."
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
