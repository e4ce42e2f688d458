"""Commands of the embedded stack: up, down, status, logs, doctor."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import load_settings, load_volume_settings
from bc_pipeline.cli.live_status import live_status, show_first_cycle
from bc_pipeline.cli.options import AsJson
from bc_pipeline.clock import now
from bc_pipeline.errors import NotStored

if TYPE_CHECKING:
    from bc_pipeline.settings import Settings

READY_SECONDS = 180.0


def up(as_json: AsJson = False) -> None:
    """Start the stack and bring it to its first champion, prediction and batch score.

    A second call restarts what does not run and reports; it does not train again.

    Examples: `bc-pipeline up`, `BC_SERVICE_PORT=8100 bc-pipeline up --json`
    """
    from bc_pipeline.stack import control
    from bc_pipeline.stack.state import with_running_ports

    started_at = time.monotonic()
    requested = load_settings()
    started = control.start(requested)
    settings = with_running_ports(requested)
    output.say(
        f"Starting the stack in {settings.home}" if started else "The stack is running already."
    )
    if settings != requested:
        output.say("It keeps its ports. To change them, stop it first: make down.")
    with live_status() as update:
        control.wait_ready(
            settings,
            READY_SECONDS,
            lambda state: update("Processes", {p.name: p.phase for p in state.processes}),
        )
    cycle = show_first_cycle(settings)
    seconds = round(time.monotonic() - started_at, 1)
    report = control.status(settings) | cycle | {"seconds": seconds}
    output.show(report, *_up_tables(settings, report), as_json=as_json)
    if not as_json:
        output.say("Decision support for research. Not a medical device.")


def _up_tables(settings: Settings, report: dict[str, Any]) -> tuple[output.Table, output.Table]:
    from bc_pipeline.stack.first_cycle import last_week

    champion, prediction = report["champion"], report["prediction"]
    summary = output.fields(
        f"bc_pipeline is up ({report['seconds']} s)",
        {
            "Airflow": f"{report['airflow']['url']} (user {report['airflow']['user']})",
            "Airflow password": _relative(report["airflow"]["password_file"]),
            "MLflow": report["mlflow"]["training_runs"],
            "Prediction service": f"{report['service']['url']} (try /docs)",
            "API key": _relative(report["service"]["api_key_file"]),
            "Champion": f"{champion['version']} ({champion['model']}, F1 {champion['f1']:.3f})",
            "Gate verdict": f"{champion['verdict']}, passed",
            "First prediction": (
                f"{prediction['label']} ({prediction['probability']:.3f}) "
                f"by {prediction['model_version']}"
            ),
            "Batch scores": report["scores"] and _relative(report["scores"]),
            "Volume": _relative(str(settings.home)),
        },
    )
    program = _relative(sys.argv[0])
    first = last_week(now())[0] - timedelta(weeks=8)
    last = first + timedelta(days=13)
    following = {
        f"{program} verdict": "why the champion was allowed to be",
        f"{program} backfill --from {first:%Y-%m-%d} --to {last:%Y-%m-%d}": "retrain two weeks",
        "make status, make logs, make down": "look, follow, stop",
    }
    if steps.registry(settings, settings.service_problem)["registry"]["previous"]:
        following[f'{program} rollback --reason "..."'] = "back to the champion before this one"
    return summary, output.fields("Next", following)


def _relative(path: str) -> str:
    """A path relative to the working directory, where it is inside of that."""
    folder = Path.cwd()
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path


def down(as_json: AsJson = False) -> None:
    """Stop the stack as a whole; everything on the volume stays.

    Example: `bc-pipeline down`
    """
    from bc_pipeline.stack import control

    settings = load_settings()
    stopped = control.stop(settings)
    if as_json:
        output.show_json({"stopped": stopped})
    else:
        output.say(
            "The stack is stopped." if stopped else f"No stack was running in {settings.home}."
        )


def status(as_json: AsJson = False) -> None:
    """Show processes, URLs and the champion; exit 11 unless all of it works.

    Example: `bc-pipeline status --json`
    """
    from bc_pipeline.artifacts.store_format import no_volume
    from bc_pipeline.stack import control
    from bc_pipeline.stack.state import with_running_ports

    settings = load_settings()
    report = control.status(with_running_ports(settings))
    champion = report["champion"]
    columns = ("name", "phase", "pid", "restarts", "log")
    rows = ([process[column] for column in columns] for process in report["processes"])
    fields = {
        "service": report["service"]["url"],
        "airflow": report["airflow"]["url"],
        "airflow user": report["airflow"]["user"],
        "airflow password": report["airflow"]["password_file"],
        "API key": report["service"]["api_key_file"],
        "mlflow": report["mlflow"]["training_runs"],
        "champion": champion["version"],
        "model": champion["model"],
        "F1 on its holdout": champion["f1"],
        "generation": champion["generation"],
    }
    if champion["fault"]:
        fields["registry"] = champion["fault"]
    if report["distrusted_keys"]:
        fields["distrusted signing keys"] = [
            f"{key_id} since {since}" for key_id, since in report["distrusted_keys"].items()
        ]
    processes = output.table("Processes", columns, rows)
    output.show(report, processes, output.fields("Stack", fields), as_json=as_json)
    if champion["fault"]:
        output.say(champion["fault"])
        raise typer.Exit(output.UNHEALTHY)
    if not report["volume"]:
        output.say(str(no_volume(settings.home)))
        raise typer.Exit(output.UNHEALTHY)
    if not report["ready"]:
        output.say(
            "Not everything works. Run 'make up' to start or repair it."
            if report["running"]
            else "The stack is stopped. Start it with `make up` or `bc-pipeline up`."
        )
        raise typer.Exit(output.UNHEALTHY)
    if champion["version"] is None:
        output.say(
            "No model was promoted yet: predictions are refused. Run `make up` to train one."
        )
        raise typer.Exit(output.UNHEALTHY)


def logs(
    name: str = typer.Argument("", help="One process, such as service; default: all."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on until Ctrl-C."),
    lines: int = typer.Option(20, "--lines", "-n", min=0, help="How many of the last lines."),
    as_json: AsJson = False,
) -> None:
    """Show the last lines of the stack's logs.

    Examples: `bc-pipeline logs service -n 50`, `bc-pipeline logs --follow`
    """
    folder = load_volume_settings().home / "logs"
    logs = {path.stem: path for path in sorted(folder.glob("*.log"))}
    paths = [path for stem, path in logs.items() if name in ("", stem)]
    if not paths:
        known = ", ".join(logs) or "none"
        raise NotStored(f"There is no log {name!r} in {folder}; there is: {known}.")
    if as_json:
        output.show_json({path.stem: last_lines(path, lines) for path in paths})
        return
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, paths)]
    try:
        raise typer.Exit(subprocess.run(command, check=False).returncode)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def last_lines(path: Path, count: int) -> list[str]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        return [line.rstrip("\n") for line in deque(stream, maxlen=count)]


def doctor(as_json: AsJson = False) -> None:
    """Check this machine and the volume; exit 11 where a check fails.

    Example: `bc-pipeline doctor`
    """
    from bc_pipeline.stack.doctor import check_all
    from bc_pipeline.stack.state import with_running_ports

    findings = check_all(with_running_ports(load_settings()))
    table = output.table(
        "Doctor",
        ("check", "passed", "detail", "remedy"),
        [[f.name, f.ok, f.detail, "" if f.ok else f.remedy] for f in findings],
    )
    output.show([asdict(finding) for finding in findings], table, as_json=as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(output.UNHEALTHY)


def register(app: typer.Typer) -> None:
    for command in (up, down, status, logs, doctor):
        app.command(rich_help_panel="Stack")(command)
