"""The commands backup, restore and upgrade."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bc_pipeline import steps
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import load_settings, load_volume_settings
from bc_pipeline.cli.options import AsJson, Force
from bc_pipeline.cli.output_file import OutputFile, output_file, require_parent
from bc_pipeline.tables.input_file import require_file


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="FILE_OR_FOLDER", help="Where to write it, or what to check.")
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Check an existing backup; write nothing.")
    ] = False,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Leave the volume's keys out.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write one encrypted, checked backup of the volume and its databases while all runs.

    It is a tar archive in an age file, encrypted for the public keys in `BC_BACKUP_RECIPIENTS`.
    `--verify` decrypts it with the identity file that `BC_BACKUP_KEY_FILE` names.

    Examples: `bc-pipeline backup /backups`, `bc-pipeline backup --verify FILE`
    """
    from bc_pipeline.backup.create import create_backup
    from bc_pipeline.backup.verify import verify_backup

    started = time.monotonic()
    settings = load_settings()
    path = target.expanduser().absolute()
    with output.progress("backup", quiet=as_json) as update:
        if verify:
            require_file(path, "FILE_OR_FOLDER")
            checked = verify_backup(path, settings, report=update)
            size, to_stderr = path.stat().st_size, False
        else:
            with _backup_file(path, force=force, ask=not as_json) as out:
                created = create_backup(
                    settings, out.path, with_keys=not without_keys, force=force, report=update
                )
                checked, size = created.checked, created.path.stat().st_size
            path = path if out.copied else created.path
            to_stderr = out.is_standard_output
    result = {"file": str(path), "size": size, "seconds": _since(started)}
    title = "Backup is complete" if verify else "Backup"
    output.report(title, result | checked.summary(), as_json=as_json, to_stderr=to_stderr)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="FOLDER", help="Folder to restore to. Default: BC_HOME."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Set existing files in that folder aside.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a backup as a whole, then move the volume and its databases into place.

    It is decrypted with the identity file that `BC_BACKUP_KEY_FILE` names. Records go into the
    database that `BC_RECORDS_URL` names, which must be empty; without it they stay an SQLite
    file. Nothing may run on the volume.

    Example: `bc-pipeline restore FILE --home /srv/bc_pipeline`
    """
    from bc_pipeline.backup.restore import restore_backup

    started = time.monotonic()
    settings = load_settings(**({"home": home} if home else {}))
    require_file(file.expanduser(), "FILE")
    require_parent(settings.home, "home")
    with output.progress("restore", quiet=as_json) as update:
        restored = restore_backup(
            settings, file.expanduser().absolute(), replace=replace, report=update
        )
    result = {
        "home": str(settings.home),
        "records": restored.database or None,
        "set_aside": [str(path) for path in restored.set_aside],
        "erasures_to_repeat": list(restored.erasures),
        "seconds": _since(started),
    } | restored.checked.summary()
    output.report("Restored", result, as_json=as_json)


def upgrade(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the volume and the records database up to this release; repeating changes nothing.

    Take a backup before. Example: `bc-pipeline upgrade --dry-run`
    """
    from bc_pipeline.stack.upgrade import upgrade as run

    settings = load_volume_settings() if dry_run else load_settings()
    if not dry_run:
        steps.require_signing(settings)
    result = asdict(run(settings, dry_run=dry_run))
    output.report("Would upgrade" if dry_run else "Upgrade", result, as_json=as_json)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _backup_file(path: Path, *, force: bool, ask: bool) -> AbstractContextManager[OutputFile]:
    """The file to write; in a folder it is named by the time, and so new."""
    if path.is_dir():
        return nullcontext(OutputFile(path))
    return output_file(path, force=force, ask=ask, setting="FILE_OR_FOLDER")


def register(app: typer.Typer) -> None:
    for command in (backup, restore, upgrade):
        app.command(rich_help_panel="Operations")(command)
