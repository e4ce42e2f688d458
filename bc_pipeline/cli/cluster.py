"""Commands for a deployment whose processes are started elsewhere: init, first-cycle."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from bc_pipeline.cli import output
from bc_pipeline.cli.caller import load_settings
from bc_pipeline.cli.live_status import show_first_cycle
from bc_pipeline.cli.options import AsJson, require_finite
from bc_pipeline.tables.input_file import input_file, require_file

cluster_app = typer.Typer(help="A deployment on Compose, Kubernetes or machines of your own.")

WAIT_SECONDS = 180.0
Seconds = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="How long to wait for it.",
        callback=require_finite,
    ),
]


@cluster_app.command("init")
def init(
    connections: Annotated[
        Path | None,
        typer.Option(
            "--connections",
            metavar="FILE",
            help="Airflow's connections as JSON, YAML or .env; differing ones are replaced.",
        ),
    ] = None,
    service_password: Annotated[
        Path | None,
        typer.Option(
            "--service-password",
            metavar="FILE",
            help="Password of a new user `service`, who may only start and see retrains.",
        ),
    ] = None,
    owner: Annotated[
        str, typer.Option("--owner", help="Owner of the volume, as numbers; set only by root.")
    ] = "50000:0",
    wait: Seconds = WAIT_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Prepare the volume, its keys, and Airflow's database, pools, connections and users.

    Airflow is configured by its own environment variables. Existing objects stay, so the command
    may be repeated, and run on two machines at once. Example: `bc-pipeline cluster init`
    """
    from bc_pipeline.deployment.cluster import prepare
    from bc_pipeline.deployment.shared_volume import Owner

    settings = load_settings()
    if connections is not None:
        require_file(connections, "connections")
    with (
        output.progress("Looking at the settings", quiet=as_json) as update,
        input_file(service_password, "service-password")
        if service_password
        else nullcontext() as password,
    ):
        result = prepare(
            settings,
            lambda text: update(text, None),
            owner=Owner.parse(owner),
            connections=connections,
            service_password=password,
            seconds=wait,
        )
    output.report("The deployment is prepared", result, as_json=as_json)


@cluster_app.command("first-cycle")
def first_cycle(wait: Seconds = WAIT_SECONDS, as_json: AsJson = False) -> None:
    """Bring a deployment to its first champion, prediction and batch score, as `up` does.

    BC_AIRFLOW_URL and BC_SERVICE_URL name its servers. Where it has a champion already, only one
    prediction is requested and nothing is trained. Example: `bc-pipeline cluster first-cycle`
    """
    from bc_pipeline.stack.first_cycle import wait_until_reachable

    started = time.monotonic()
    settings = load_settings()
    with output.progress("Waiting for the deployment", quiet=as_json) as update:
        wait_until_reachable(settings, wait, lambda text: update(text, None))
    cycle = show_first_cycle(settings)
    result = cycle | {"seconds": round(time.monotonic() - started, 1)}
    prediction = cycle["prediction"]
    table = output.fields(
        f"The deployment has a champion ({result['seconds']} s)",
        {
            "Champion": prediction["model_version"],
            "Prediction": f"{prediction['label']} ({prediction['probability']:.3f})",
            "Batch scores": cycle["scores"],
        },
    )
    output.show(result, table, as_json=as_json)


def register(app: typer.Typer) -> None:
    app.add_typer(cluster_app, name="cluster", rich_help_panel="Operations")
