"""Keys: those that sign versions, and those that let clients in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from bc_pipeline import clock
from bc_pipeline.access import keys
from bc_pipeline.access.scopes import SCOPES
from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.cli import output
from bc_pipeline.cli.options import AsJson
from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings, load_settings

app = typer.Typer(help="The keys that sign versions and let clients in.")

_PRIVATE = 0o600

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Write the key to this file, which only you can read; do not show it."
    ),
]
Which = Annotated[str, typer.Argument(metavar="ID_OR_NAME", help="Of a live key.")]


@app.command("init")
def init(as_json: AsJson = False) -> None:
    """Make the signing pair and the service's API key, where they are missing.

    `bc-pipeline up` does this too. Example: `bc-pipeline keys init`
    """
    from bc_pipeline.stack.secrets import make_secrets

    with output.errors_as_exit_codes(as_json=as_json):
        settings = load_settings()
        make_secrets(settings)
        files = {
            "signing_key": settings.signing_key,
            "verify_key": settings.verify_key,
            "api_key": settings.api_key,
            "service_keys": settings.service_keys,
        }
        result = {name: str(path) for name, path in files.items()}
        output.report("Keys", result, as_json=as_json)


@app.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="Who uses the key, such as hospital-a.")],
    scope: Annotated[
        list[str],
        typer.Option("--scope", help=f"What it allows; again for more: {', '.join(SCOPES)}."),
    ],
    expires_days: Annotated[
        int | None, typer.Option("--expires-days", min=1, max=3650, help="Default: never.")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Make a key for a client. It is shown once and stored nowhere, only its digest is.

    Example: `bc-pipeline keys create --name hospital-a --scope predict --scope outcomes`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        end = None if expires_days is None else clock.now() + timedelta(days=expires_days)
        with _reserved(out):
            raw, entry = keys.create_key(load_settings().service_keys, name, scope, end)
            _hand_over(raw, entry, out, as_json=as_json)


@app.command("import")
def import_(
    name: Annotated[str, typer.Option("--name", help="Who uses the key.")],
    scope: Annotated[
        list[str],
        typer.Option("--scope", help=f"What it allows; again for more: {', '.join(SCOPES)}."),
    ],
    key_file: Annotated[
        Path, typer.Option("--key-file", help="The key, as the deployment's secret.")
    ],
    as_json: AsJson = False,
) -> None:
    """Let a key in that was made elsewhere; other live keys of that name are revoked.

    A key that is known already changes nothing, so a deployment may do this at each start.

    Example: `bc-pipeline keys import --name prometheus --scope read --key-file prometheus_key`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        try:
            raw = key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The key in {key_file} cannot be read ({type(error).__name__}).",
                "Name a file that holds one key.",
                setting="key-file",
            ) from None
        entry = keys.import_key(load_settings().service_keys, name, scope, raw, replacing=True)
        output.report("Key", _shown(entry), as_json=as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show every key that was made: its id, name, scopes and state; never the key.

    Example: `bc-pipeline keys list`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        found = [_shown(entry) for entry in keys.list_keys(load_settings().service_keys)]
    if as_json:
        output.show_json({"keys": found})
        return
    columns = ("id", "name", "state", "scopes", "created_at", "expires_at", "rotated_to")
    output.show_table("Keys", columns, [[entry[column] for column in columns] for entry in found])


@app.command("revoke")
def revoke(which: Which, as_json: AsJson = False) -> None:
    """Refuse a key from now on; running services follow within a second.

    A name stands for all live keys that bear it. Example: `bc-pipeline keys revoke hospital-a`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        revoked = keys.revoke_key(load_settings().service_keys, which)
        result = {"revoked": [entry.id for entry in revoked]}
        output.report("Revoked", result, as_json=as_json)


@app.command("rotate")
def rotate(
    which: Which,
    overlap_hours: Annotated[
        float,
        typer.Option("--overlap-hours", min=0, max=87_600, help="How long the old key goes on."),
    ] = 24,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Make a key of the same name and scopes; the old one ends after the overlap.

    The key that stands in the service's own key file is replaced there, and not shown.

    Example: `bc-pipeline keys rotate hospital-a --overlap-hours 48`
    """
    with output.errors_as_exit_codes(as_json=as_json):
        settings = load_settings()
        overlap = timedelta(hours=overlap_hours)
        with _reserved(out):
            raw, entry = keys.rotate_key(settings.service_keys, which, overlap)
            known = keys.list_keys(settings.service_keys)
            old = next(replaced for replaced in known if replaced.rotated_to == entry.id)
            if out is None and old.sha256 == _digest_in_file(settings):
                out = settings.api_key
            _hand_over(raw, entry, out, as_json=as_json, old=old)


def _hand_over(
    raw: str,
    entry: keys.KeyEntry,
    out: Path | None,
    *,
    as_json: bool,
    old: keys.KeyEntry | None = None,
) -> None:
    """Give the key away, the one time that it can be."""
    result = _shown(entry)
    if old is not None:
        result |= {"replaces": old.id, "replaced_ends": old.expires_at}
    if out is not None:
        write_atomic(out, raw.encode() + b"\n", mode=_PRIVATE)
        output.report("Key", result | {"file": str(out)}, as_json=as_json)
    elif as_json:
        output.show_json(result | {"key": raw})
    else:
        # Nothing but the key on standard output, so that a shell can take it from there.
        ends = "never" if entry.expires_at is None else entry.expires_at
        replaced = "" if old is None else f"; {old.id} goes on until {old.expires_at}"
        output.say(
            f"Key {entry.id} of {entry.name}, for {', '.join(entry.scopes)}; "
            f"expires: {ends}{replaced}. It cannot be shown again:"
        )
        typer.echo(raw)


def _shown(entry: keys.KeyEntry) -> dict[str, Any]:
    """What may be told of a key: not its digest, which is nobody's business."""
    return {
        "id": entry.id,
        "name": entry.name,
        "state": entry.state(clock.now()),
        "scopes": list(entry.scopes),
        "created_at": entry.created_at,
        "expires_at": entry.expires_at,
        "revoked_at": entry.revoked_at,
        "rotated_to": entry.rotated_to,
    }


def _digest_in_file(settings: Settings) -> str:
    try:
        raw = settings.api_key.read_bytes().strip()
    except OSError:
        return ""
    return hashlib.sha256(raw).hexdigest()


@contextmanager
def _reserved(out: Path | None) -> Iterator[None]:
    """Make sure that the file can be written before there is a key to lose."""
    if out is None:
        yield
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except OSError as error:
        raise ConfigError(
            f"{out} cannot be made: {error.strerror}.", "Name a new file.", setting="out"
        ) from None
    os.close(descriptor)
    try:
        yield
    except BaseException:
        out.unlink(missing_ok=True)
        raise
