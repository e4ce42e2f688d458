"""One approval DAG for each problem: a person decides, and the version is promoted or not."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param
from bc_airflow.approval import ApproveRelease, answer_params
from bc_airflow.assets import champion_asset
from bc_airflow.conclude import step
from bc_airflow.defaults import START, task_defaults
from bc_airflow.guides import approval_guide
from bc_airflow.mirroring import record_in_mlflow
from bc_airflow.release import promote_approved_or_skip

from bc_pipeline.problems import PROBLEMS
from bc_pipeline.problems.base import Problem
from bc_pipeline.stack.pools import PROMOTION_POOL


def approval(problem: Problem) -> DAG:
    """The DAG ``<problem>_approval``."""
    name = problem.name
    champion = champion_asset(name)
    with DAG(
        dag_id=f"{name}_approval",
        description=f"{problem.title}: a person decides about a model that passed its gate.",
        doc_md=approval_guide(problem),
        schedule=None,
        start_date=START,
        catchup=False,
        # A run waits for days, and a later one supersedes it.
        max_active_runs=16,
        # Nothing runs unless it is requested.
        is_paused_upon_creation=False,
        tags=[name, "approval"],
        params={
            "version": Param(
                type="string",
                minLength=1,
                title="Version",
                description="A version that passed its gate, as `bc-pipeline registry` names it.",
            ),
            "digest": Param(
                None,
                type=["null", "string"],
                title="Digest",
                description="SHA-256 of its manifest. Empty: of the manifest that there is.",
            ),
        },
        default_args=task_defaults(),
    ) as dag:
        approve = ApproveRelease(
            task_id="approve",
            task_display_name="Approve",
            problem=name,
            params=answer_params(),
        )

        @step(task_display_name="Promote", pool=PROMOTION_POOL, outlets=[champion])
        def promote(answer: dict[str, Any]) -> dict[str, Any]:
            return promote_approved_or_skip(name, answer, champion)

        promote(approve.output) >> record_in_mlflow(name)
    return dag


for problem in PROBLEMS:
    approval(problem)
