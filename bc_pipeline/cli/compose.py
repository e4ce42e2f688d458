"""Commands of a deployment in containers: compose secrets, up, down."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bc_pipeline.cli import output
from bc_pipeline.cli.caller import load_settings
from bc_pipeline.cli.options import AsJson, require_finite
from bc_pipeline.cli.output_file import require_parent

HEALTHY_SECONDS = 600.0

app = typer.Typer(help="A deployment in containers; `docs/deployment.md` has more.")


@app.command("secrets")
def secrets(
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Default: secrets/ in the checkout.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make missing secrets of a deployment in containers; existing ones stay.

    Example: `bc-pipeline compose secrets`
    """
    from bc_pipeline.deployment.container_secrets import make_container_secrets

    target = folder or load_settings().project_dir / "secrets"
    require_parent(target, "folder")
    made = make_container_secrets(target)
    result = {"folder": str(target), "made": made}
    output.report("Secrets", result, as_json=as_json)


@app.command("up")
def up(
    profile: Annotated[
        list[str] | None, typer.Option(help="observability, spark or flower; again for more.")
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=1,
            help="How long containers may take to become healthy.",
            callback=require_finite,
        ),
    ] = HEALTHY_SECONDS,
    first_cycle: Annotated[
        bool,
        typer.Option(
            "--first-cycle/--no-first-cycle",
            help="Bring a new deployment to its first champion, prediction and batch score.",
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Start the containers, wait until they are healthy, and run the first cycle.

    A second call restarts missing containers; it does not train again.

    Examples: `bc-pipeline compose up`, `bc-pipeline compose up --profile observability`
    """
    from bc_pipeline.deployment import containers

    project = load_settings().project_dir
    containers.start(project, profile or (), seconds, output.say)
    if first_cycle:
        options = ("--json",) if as_json else ()
        code = containers.run_command(project, "cluster", "first-cycle", *options)
        if code:
            raise typer.Exit(code)
    elif as_json:
        output.show_json({"profiles": profile or []})


@app.command("down")
def down(as_json: AsJson = False) -> None:
    """Stop and remove the containers of every profile; the volumes stay.

    Example: `bc-pipeline compose down`
    """
    from bc_pipeline.deployment import containers

    containers.stop(load_settings().project_dir)
    if as_json:
        output.show_json({"removed": True, "volumes": "retained"})
    else:
        output.say("The containers are removed; the volumes stay.")
