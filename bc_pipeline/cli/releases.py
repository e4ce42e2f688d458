"""Commands that decide which version is in production: promote, approve, rollback."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import actor, load_settings, new_run
from bc_pipeline.cli.completion import complete_version
from bc_pipeline.cli.options import AsJson, ProblemName
from bc_pipeline.errors import counted
from bc_pipeline.problems import DEFAULT_PROBLEM

if TYPE_CHECKING:
    from bc_pipeline.settings import Settings

_REASON = 100

Version = Annotated[
    str,
    typer.Argument(
        help="A model version, as `evaluate` names it, in full or in short.",
        autocompletion=complete_version,
    ),
]
Reason = Annotated[
    str,
    typer.Option(
        "--reason",
        metavar="TEXT",
        help="Why, for the audit log; asked for on a terminal. No data of patients.",
        show_default=False,
    ),
]


def promote(
    version: Version,
    reason: Reason = "",
    problem: ProblemName = DEFAULT_PROBLEM,
    as_json: AsJson = False,
) -> None:
    """Make a version that passed its gate, and is approved where it must be, the champion.

    Example: `bc-pipeline promote 20260601T000000Z-logistic-3f2a9c1b7d --reason "trained by hand"`
    """
    settings, why = load_settings(), _require_reason(reason, as_json=as_json)
    run, version = new_run(problem), steps.resolve_version(settings, problem, version)
    result = steps.promote(settings, run, version, actor=actor(), reason=why)
    _show(settings, problem, "Promotion", result, as_json=as_json)


def approve(
    version: Version,
    reason: Reason = "",
    reject: Annotated[
        bool, typer.Option("--reject", help="Decide that it must not be promoted.")
    ] = False,
    problem: ProblemName = DEFAULT_PROBLEM,
    as_json: AsJson = False,
) -> None:
    """Approve or reject a version that needs a person's decision, and promote it if approved.

    Whoever started its run cannot approve it. The approval is about the version's manifest.

    Example: `bc-pipeline approve 20260601T000000Z-logistic-3f2a9c1b7d --reason "read the card"`
    """
    settings, why = load_settings(), _require_reason(reason, as_json=as_json)
    run, version = new_run(problem), steps.resolve_version(settings, problem, version)
    digest = steps.verdict(settings, problem, version)["manifest_sha256"]
    result = steps.approve(settings, run, version, digest, not reject, actor(), reason=why)
    if reject:
        output.report("Approval", result, as_json=as_json)
        return
    result |= steps.promote(settings, run, version, actor=actor(), reason=why)
    _show(settings, problem, "Approval", result, as_json=as_json)


def rollback(
    version: Annotated[
        str,
        typer.Argument(
            help="An earlier champion, in full or in short. Default: the previous one.",
            autocompletion=complete_version,
        ),
    ] = "",
    reason: Reason = "",
    problem: ProblemName = DEFAULT_PROBLEM,
    as_json: AsJson = False,
) -> None:
    """Bring an earlier champion back; the service follows within two seconds.

    Examples: `bc-pipeline rollback --reason "drift at clinic B"`,
    `bc-pipeline rollback 20260601T000000Z-logistic-3f2a9c1b7d --reason "drift at clinic B"`
    """
    settings, why = load_settings(), _require_reason(reason, as_json=as_json)
    version = version and steps.resolve_version(settings, problem, version)
    result = steps.rollback(settings, problem, version or None, actor=actor(), reason=why)
    _show(settings, problem, "Rollback", result, as_json=as_json)


def announce(settings: Settings, problem: str, release: dict[str, Any]) -> dict[str, Any]:
    """Update the champion's Asset; says so where batch scoring does not follow now."""
    from bc_pipeline.stack.champion_asset import update_champion_asset

    reason = update_champion_asset(settings, problem, release["version"], release["generation"])
    if reason:
        output.say(f"Batch scoring follows with its next daily run: {reason}")
    return {"batch_scoring_follows": not reason}


def warn_of_mirror(mirrored: dict[str, Any]) -> None:
    """Say in one line that MLflow lacks something; the volume has it all."""
    if mirrored["failed"]:
        reason = textwrap.shorten(mirrored["reason"].rstrip("."), _REASON, placeholder=" ...")
        output.say(
            f"MLflow is {counted(mirrored['failed'], 'entry', 'entries')} behind ({reason}). "
            "The next run or release catches up; see `bc-pipeline status`."
        )


def _show(
    settings: Settings, problem: str, title: str, result: dict[str, Any], *, as_json: bool
) -> None:
    if result["changed"]:
        with output.progress("updating Airflow and MLflow", quiet=as_json):
            result |= announce(settings, problem, result)
            mirrored = steps.mirror(settings, problem)
        result["mirrored"] = not mirrored["failed"]
        warn_of_mirror(mirrored)
    output.report(title, result, as_json=as_json)


def _require_reason(reason: str, *, as_json: bool) -> str:
    """The reason, asked for on a terminal.

    Raises
    ------
    BadParameter
        Where there is none, and nobody to ask.
    """
    if not reason and not as_json and sys.stdin.isatty() and sys.stderr.isatty():
        reason = str(typer.prompt("Why, for the audit log", err=True))
    if not reason.strip():
        raise typer.BadParameter("Say why, for the audit log.", param_hint="--reason")
    return reason.strip()
