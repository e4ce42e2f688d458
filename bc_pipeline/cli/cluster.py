"""Commands of a deployment that others start: prepare it, and bring it to its first champion."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from bc_pipeline.cli import output
from bc_pipeline.cli.board import board, task_lines
from bc_pipeline.cli.options import AsJson
from bc_pipeline.settings import load_settings

cluster_app = typer.Typer(help="A deployment on Compose, Kubernetes or machines of your own.")

WAIT_SECONDS = 180.0
Seconds = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for it.")
]


@cluster_app.command("init")
def init(
    connections: Annotated[
        Path | None,
        typer.Option(
            "--connections",
            metavar="FILE",
            help="Airflow's connections as JSON, YAML or .env; what differs there is replaced.",
        ),
    ] = None,
    service_password: Annotated[
        Path | None,
        typer.Option(
            "--service-password",
            metavar="FILE",
            help="Password of a user `service` to be made, who may start and see retrains alone.",
        ),
    ] = None,
    owner: Annotated[
        str, typer.Option("--owner", help="Of the volume, as numbers; given only by root.")
    ] = "50000:0",
    wait: Seconds = WAIT_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Prepare the volume, its keys, and Airflow's database, pools, connections and users.

    Airflow is reached by its own environment variables. What is there already stays, so it
    may run again, and on two machines at once. Example: `bc-pipeline cluster init`
    """
    from bc_pipeline.stack.cluster import prepare
    from bc_pipeline.stack.shared_volume import Owner

    with output.errors_as_exit_codes(as_json=as_json):
        settings = load_settings()
        with output.progress("Looking at the settings", quiet=as_json) as update:
            result = prepare(
                settings,
                lambda text: update(text, None),
                owner=Owner.parse(owner),
                connections=connections,
                service_password=service_password,
                seconds=wait,
            )
        output.report("The deployment is prepared", result, as_json=as_json)


@cluster_app.command("first-cycle")
def first_cycle(wait: Seconds = WAIT_SECONDS, as_json: AsJson = False) -> None:
    """Bring a deployment to its first champion, prediction and batch score, as `up` does.

    It is reached by BC_AIRFLOW_URL and BC_SERVICE_URL. One that has them is asked for one
    prediction; nothing is trained again. Example: `bc-pipeline cluster first-cycle`
    """
    from bc_pipeline.stack.first_cycle import run_first_cycle, wait_until_reached

    began = time.monotonic()
    with output.errors_as_exit_codes(as_json=as_json):
        settings = load_settings()
        with output.progress("Waiting for the deployment", quiet=as_json) as update:
            wait_until_reached(settings, wait, lambda text: update(text, None))
        with board() as shown:
            cycle = run_first_cycle(
                settings,
                output.say,
                lambda dag_id, state, tasks: shown.show(f"{dag_id}: {state}", task_lines(tasks)),
            )
        result = cycle | {"seconds": round(time.monotonic() - began, 1)}
        prediction = cycle["prediction"]
        if as_json:
            output.show_json(result)
        else:
            output.show_fields(
                f"The deployment has a champion ({result['seconds']} s)",
                {
                    "Champion": prediction["model_version"],
                    "Prediction": f"{prediction['label']} ({prediction['probability']:.3f})",
                    "Batch scores": cycle["scores"],
                },
            )


def register(app: typer.Typer) -> None:
    app.add_typer(cluster_app, name="cluster", rich_help_panel="Operations")
