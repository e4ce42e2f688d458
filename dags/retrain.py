"""One retrain DAG for each problem: land, check, freeze, train, judge, release."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from airflow.sdk import (
    DAG,
    CronDataIntervalTimetable,
    Label,
    Param,
    TaskGroup,
    TriggerRule,
    result,
    task,
)
from bc_airflow.approval import ApproveRelease
from bc_airflow.assets import champion_asset
from bc_airflow.defaults import START, task_defaults
from bc_airflow.guides import retrain_guide
from bc_airflow.release import APPROVAL_TASK, promote_or_skip
from bc_airflow.runs import run_of

from bc_pipeline import steps
from bc_pipeline.problems import PROBLEMS
from bc_pipeline.problems.base import Problem
from bc_pipeline.stack.pools import PROMOTION_POOL

# One XCom per task: without this each key of what a step returns would be one more.
step = partial(task, multiple_outputs=False)


def _params() -> dict[str, Param]:
    return {
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",
            # The form asks for a date and time; Airflow checks only the pattern.
            pattern=r"^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?$",
            title="As of",
            description="Use only rows that had arrived by this time (ISO 8601). "
            "Empty: the end of the run's week.",
        ),
        "require_approval": Param(
            False,
            type="boolean",
            title="Require approval",
            description="A person decides between the gate and the release; "
            "a rejection, or no answer in three days, keeps the champion.",
        ),
        "promote_backfill": Param(
            False,
            type="boolean",
            title="Promote in a backfill",
            description="Let a backfilled run move the champion. "
            "Off: it trains and writes its verdict only.",
        ),
    }


def _group(name: str, tooltip: str) -> TaskGroup:
    """A box in the graph; task ids stay short."""
    return TaskGroup(
        name, group_display_name=name.capitalize(), tooltip=tooltip, prefix_group_id=False
    )


def retrain(problem: Problem) -> DAG:
    """The DAG ``<problem>_retrain``."""
    name = problem.name
    champion = champion_asset(name)
    with DAG(
        dag_id=f"{name}_retrain",
        description=f"{problem.title}: train, judge and release a model.",
        doc_md=retrain_guide(problem),
        schedule=CronDataIntervalTimetable("@weekly", timezone="UTC"),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        tags=[name, "training"],
        params=_params(),
        default_args=task_defaults(),
    ) as dag:
        with _group("data", "From landed files to a dataset"):

            @step(task_display_name="Ingest landed files")
            def ingest() -> dict[str, Any]:
                return steps.ingest(run_of(name))

            @step(task_display_name="Validate rows")
            def validate() -> dict[str, Any]:
                return steps.validate(run_of(name))

            @step(task_display_name="Freeze the dataset")
            def snapshot(checked: dict[str, Any]) -> dict[str, Any]:
                return steps.snapshot(run_of(name), checked["validation"])

            landed, validated = ingest(), validate()
            landed >> validated
            frozen = snapshot(validated)

        with _group("model", "From a dataset to a challenger"):

            @step(
                task_display_name="Train a candidate",
                map_index_template="{{ task.op_kwargs['candidate'] }}",
            )
            def train(taken: dict[str, Any], candidate: str) -> dict[str, Any]:
                return steps.train(run_of(name), taken["dataset"], candidate)

            @step(task_display_name="Select a candidate")
            def select(taken: dict[str, Any]) -> dict[str, Any]:
                return steps.select(run_of(name), taken["dataset"])

            @step(task_display_name="Fit and export")
            def export(taken: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
                return steps.export(
                    run_of(name),
                    dataset=taken["dataset"],
                    candidate=chosen["candidate"],
                    threshold=chosen["threshold"],
                    validation=taken["validation"],
                )

            trained = train.partial(taken=frozen).expand(
                candidate=[candidate.name for candidate in problem.candidates]
            )
            selected = select(frozen)
            trained >> selected
            challenger = export(frozen, selected)

        with _group("release", "From a challenger to a champion"):

            @step(task_display_name="Evaluate beside the champion")
            def evaluate(exported: dict[str, Any]) -> dict[str, Any]:
                return steps.evaluate(run_of(name), exported["version"])

            @result
            @step(task_display_name="Gate")
            def decide(evaluated: dict[str, Any]) -> dict[str, Any]:
                return steps.decide(run_of(name), evaluated["version"])

            @step(
                task_display_name="Promote",
                trigger_rule=TriggerRule.NONE_FAILED,
                pool=PROMOTION_POOL,
                outlets=[champion],
            )
            def promote(decision: dict[str, Any]) -> dict[str, Any]:
                return promote_or_skip(name, decision, champion)

            judged = decide(evaluate(challenger))
            approved = ApproveRelease(
                task_id=APPROVAL_TASK,
                task_display_name="Approve",
                problem=name,
                decision=judged,
            )
            released = promote(judged)
            judged >> Label("passed, and approval asked for") >> approved >> released

        @step(
            task_display_name="Record in MLflow",
            trigger_rule=TriggerRule.NONE_FAILED,
            execution_timeout=timedelta(minutes=10),
        )
        def record() -> dict[str, Any]:
            return steps.record(run_of(name))

        released >> record()
    return dag


for each in PROBLEMS:
    retrain(each)
