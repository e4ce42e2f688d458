"""Backup, restore, and the way of an older volume to this release."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bc_pipeline.cli import output
from bc_pipeline.cli.options import AsJson
from bc_pipeline.settings import load_settings


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="FILE_OR_FOLDER", help="What to write, or to check.")
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the backup that is there; write nothing.")
    ] = False,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Leave the volume's keys out.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write one encrypted, checked backup of the volume and its databases; all may run on.

    `BC_BACKUP_KEY_FILE` or `BC_BACKUP_PASSPHRASE_FILE` names what encrypts it.

    Examples: `bc-pipeline backup /backups`, `bc-pipeline backup --verify FILE`
    """
    from bc_pipeline.backup.make import make_backup
    from bc_pipeline.backup.verify import verify_backup

    began = time.monotonic()
    with output.errors_as_exit_codes(as_json=as_json), _ended_in_order():
        settings = load_settings()
        path = target.expanduser().absolute()
        with output.progress("backup", quiet=as_json) as tell:
            if verify:
                checked, size = verify_backup(path, settings, tell=tell), path.stat().st_size
            else:
                made = make_backup(
                    settings, path, with_keys=not without_keys, force=force, tell=tell
                )
                path, checked, size = made.path, made.checked, made.size
        result = {"file": str(path), "size": size, "seconds": _seconds(began)} | checked.summary()
        _show("Backup holds" if verify else "Backup", result, as_json=as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="FOLDER", help="Restore to here. Default: BC_HOME."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Set aside what stands there already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a backup as a whole, then put volume and databases in place.

    Records go into the database that `BC_RECORDS_URL` names, which must be empty; without it
    they stay an SQLite file. Nothing may run on the volume.

    Example: `bc-pipeline restore FILE --home /srv/bc_pipeline`
    """
    from bc_pipeline.backup.restore import restore_backup

    began = time.monotonic()
    with output.errors_as_exit_codes(as_json=as_json), _ended_in_order():
        settings = load_settings(**({"home": home} if home else {}))
        with output.progress("restore", quiet=as_json) as tell:
            done = restore_backup(
                settings, file.expanduser().absolute(), replace=replace, tell=tell
            )
        result = {
            "home": str(done.home),
            "records": done.database or None,
            "set_aside": [str(path) for path in done.set_aside],
            "seconds": _seconds(began),
        } | done.checked.summary()
        _show("Restored", result, as_json=as_json)


def upgrade(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done; change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the volume and the records database up to this release; again changes nothing.

    Take a backup before. Example: `bc-pipeline upgrade --dry-run`
    """
    from bc_pipeline.stack.upgrade import upgrade as run

    with output.errors_as_exit_codes(as_json=as_json):
        result = asdict(run(load_settings(), dry_run=dry_run))
        output.report("Would upgrade" if dry_run else "Upgrade", result, as_json=as_json)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM take away what is unfinished, as an interrupt does."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _seconds(began: float) -> float:
    return round(time.monotonic() - began, 1)


def _show(title: str, result: dict[str, Any], *, as_json: bool) -> None:
    if not as_json:
        for name in ("files", "generations", "databases"):
            result[name] = [f"{key}: {value}" for key, value in result[name].items()]
    output.report(title, result, as_json=as_json)


def register(app: typer.Typer) -> None:
    for command in (backup, restore, upgrade):
        app.command(rich_help_panel="Operations")(command)
