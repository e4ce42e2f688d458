"""One batch scoring DAG for each problem: daily, and after each promotion."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, AssetOrTimeSchedule, CronDataIntervalTimetable, Param
from bc_airflow.assets import champion_asset, scores_asset
from bc_airflow.conclude import step
from bc_airflow.defaults import START, task_defaults
from bc_airflow.guides import batch_score_guide
from bc_airflow.scoring import score_or_skip

from bc_pipeline.problems import PROBLEMS
from bc_pipeline.problems.base import Problem


def batch_score(problem: Problem) -> DAG:
    """The DAG ``<problem>_batch_score``."""
    name = problem.name
    scores = scores_asset(name)
    with DAG(
        dag_id=f"{name}_batch_score",
        description=f"{problem.title}: score the worklist with the champion.",
        doc_md=batch_score_guide(problem),
        schedule=AssetOrTimeSchedule(
            timetable=CronDataIntervalTimetable("@daily", timezone="UTC"),
            assets=[champion_asset(name)],
        ),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        tags=[name, "scoring"],
        params={
            "source": Param(
                None,
                type=["null", "string"],
                title="Source",
                description="Path of a CSV or Parquet file or of a folder of them, or a pattern, "
                "as the tasks' machine sees it; for Spark also a URL. "
                "Empty: every file in the worklist.",
            ),
            "engine": Param(
                "auto",
                type="string",
                enum=["auto", "local", "spark"],
                title="Engine",
                description="Where to score: this machine, or the Spark cluster that "
                "BC_SPARK_MASTER names. Auto takes the cluster, if there is one, for a URL or "
                "for BC_SPARK_ABOVE_MB and more.",
            ),
        },
        default_args=task_defaults(),
    ) as dag:

        @step(task_display_name="Score", outlets=[scores])
        def score() -> dict[str, Any]:
            return score_or_skip(name, scores)

        score()
    return dag


for problem in PROBLEMS:
    batch_score(problem)
