"""One retrain DAG for each problem: ingest, validate, snapshot, train, evaluate, release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import (
    DAG,
    CronDataIntervalTimetable,
    Label,
    Param,
    TaskGroup,
    XComArg,
    result,
)
from bc_airflow.approval import RequestApproval
from bc_airflow.assets import champion_asset
from bc_airflow.conclude import step
from bc_airflow.defaults import START, task_defaults
from bc_airflow.guides import retrain_guide
from bc_airflow.ingest import ingest_and_notify
from bc_airflow.mirroring import record_in_mlflow
from bc_airflow.release import promote_or_skip
from bc_airflow.retraining import find_news_or_skip
from bc_airflow.runs import run_of

from bc_pipeline import steps
from bc_pipeline.problems import PROBLEMS
from bc_pipeline.problems.base import Problem
from bc_pipeline.settings import load_settings
from bc_pipeline.stack.pools import PROMOTION_POOL


def _params() -> dict[str, Param]:
    return {
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",
            # The format sets the form's input; Airflow checks only the pattern.
            pattern=r"^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?$",
            title="As of",
            description="Use only rows that had arrived by this time (ISO 8601). Empty: now, "
            "whatever the logical date is; in a scheduled or backfilled run the end of its week.",
        ),
        "require_approval": Param(
            False,
            type="boolean",
            title="Require approval",
            description="A person decides about the release in the approval DAG; a rejection, "
            "or no answer in three days, keeps the champion. Off: as the problem's policy says.",
        ),
        "train_anyway": Param(
            False,
            type="boolean",
            title="Train anyway",
            description="Train although there is nothing new to train on.",
        ),
        "land_outcomes": Param(
            False,
            type="boolean",
            title="Land outcomes",
            description="Train on answered predictions whose outcome had been recorded by the "
            "as-of time, too. They are samples that somebody chose to verify.",
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
    """A task group whose tasks have no prefix in their ids."""
    return TaskGroup(
        name, group_display_name=name.capitalize(), tooltip=tooltip, prefix_group_id=False
    )


def _data_tasks(name: str) -> XComArg:
    """Ingest, validate and snapshot; gives the snapshot, where there is something new in it."""
    with _group("data", "From landed files to a dataset"):

        @step(task_display_name="Ingest landed files")
        def ingest() -> dict[str, Any]:
            return ingest_and_notify(name)

        @step(task_display_name="Validate rows")
        def validate() -> dict[str, Any]:
            return steps.validate(load_settings(), run_of(name))

        @step(task_display_name="Freeze the dataset")
        def snapshot(validated: dict[str, Any]) -> dict[str, Any]:
            return steps.snapshot(load_settings(), run_of(name), validated["validation"])

        @step(task_display_name="Look for anything new")
        def find_news(frozen: dict[str, Any]) -> dict[str, Any]:
            return find_news_or_skip(name, frozen)

        ingested, validated = ingest(), validate()
        ingested >> validated
        return find_news(snapshot(validated))


def _model_tasks(problem: Problem, dataset: XComArg) -> XComArg:
    """Train every candidate, select one, and export each challenger; gives the exports' results."""
    name = problem.name
    with _group("model", "From a dataset to challengers"):

        @step(
            task_display_name="Train a candidate",
            map_index_template="{{ task.op_kwargs['candidate'] }}",
        )
        def train(snapshot: dict[str, Any], candidate: str) -> dict[str, Any]:
            return steps.train(load_settings(), run_of(name), snapshot["dataset"], candidate)

        @step(task_display_name="Select a candidate")
        def select(snapshot: dict[str, Any]) -> dict[str, Any]:
            return steps.select(load_settings(), run_of(name), snapshot["dataset"])

        @step(task_display_name="Add the champion's recipe")
        def challengers(
            snapshot: dict[str, Any], selection: dict[str, Any]
        ) -> list[dict[str, Any]]:
            return steps.challengers(
                load_settings(),
                run_of(name),
                snapshot["dataset"],
                selection["candidate"],
                selection["threshold"],
                # Missing where release 0.1.0 ran the snapshot.
                snapshot.get("batches"),
            )

        @step(
            task_display_name="Fit and export",
            map_index_template="{{ task.op_kwargs['challenger']['candidate'] }}",
        )
        def export(snapshot: dict[str, Any], challenger: dict[str, Any]) -> dict[str, Any]:
            return steps.export(
                load_settings(),
                run_of(name),
                dataset=snapshot["dataset"],
                validation=snapshot["validation"],
                # Missing where release 0.1.0 ran the snapshot.
                batches=snapshot.get("batches"),
                **challenger,
            )

        trained = train.partial(snapshot=dataset).expand(
            candidate=[candidate.name for candidate in problem.candidates]
        )
        selected = select(dataset)
        trained >> selected
        return export.partial(snapshot=dataset).expand(challenger=challengers(dataset, selected))


def _release_tasks(name: str, exported: XComArg) -> list[Any]:
    """Evaluate, decide, choose, and promote or request an approval; gives both last tasks."""
    champion = champion_asset(name)
    with _group("release", "From challengers to a champion"):

        @step(
            task_display_name="Evaluate beside the champion",
            map_index_template="{{ task.op_kwargs['exported']['version'] }}",
        )
        def evaluate(exported: dict[str, Any]) -> dict[str, Any]:
            return steps.evaluate(load_settings(), run_of(name), exported["version"])

        @step(
            task_display_name="Gate",
            map_index_template="{{ task.op_kwargs['evaluated']['version'] }}",
        )
        def decide(evaluated: dict[str, Any]) -> dict[str, Any]:
            return steps.decide(load_settings(), run_of(name), evaluated["version"])

        @result
        @step(task_display_name="Choose the winner")
        def choose(decisions: Sequence[dict[str, Any]]) -> dict[str, Any]:
            return steps.choose(load_settings(), run_of(name), list(decisions))

        @step(task_display_name="Promote", pool=PROMOTION_POOL, outlets=[champion])
        def promote(decision: dict[str, Any]) -> dict[str, Any]:
            return promote_or_skip(name, decision, champion)

        decided = choose(
            decide.expand(evaluated=evaluate.expand(exported=exported)),
        )
        requested = RequestApproval(
            task_id="request_approval",
            task_display_name="Request an approval",
            problem=name,
            decision=decided,
        )
        decided >> Label("passed, and approval required") >> requested
        return [promote(decided), requested]


def retrain(problem: Problem) -> DAG:
    """The DAG ``<problem>_retrain``."""
    name = problem.name
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
        released = _release_tasks(name, _model_tasks(problem, _data_tasks(name)))

        released >> record_in_mlflow(name)
    return dag


for problem in PROBLEMS:
    retrain(problem)
