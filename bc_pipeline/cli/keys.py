"""Commands for the keys that sign versions and the API keys of clients."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from bc_pipeline import clock
from bc_pipeline.auth.callers import SCOPES
from bc_pipeline.cli import output
from bc_pipeline.cli.caller import load_settings, require_folder
from bc_pipeline.cli.options import AsJson, require_finite
from bc_pipeline.cli.output_file import output_file
from bc_pipeline.errors import ConfigError
from bc_pipeline.tables.input_file import input_file

if TYPE_CHECKING:
    from bc_pipeline.auth.key_store import KeyEntry

app = typer.Typer(help="Keys that sign versions, and API keys of clients.")

_PRIVATE = 0o600
_KEY_BYTES = 1 << 16

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Write the key to this file, which only you can read; do not show it."
    ),
]
Scopes = Annotated[
    list[str],
    typer.Option("--scope", help=f"What it allows; again for more: {', '.join(SCOPES)}."),
]
Which = Annotated[str, typer.Argument(metavar="ID_OR_NAME", help="Id or name of a live key.")]


@app.command("init")
def init(as_json: AsJson = False) -> None:
    """Make the signing pair and the service's API key, where they are missing.

    `bc-pipeline up` does this too. Example: `bc-pipeline keys init`
    """
    from bc_pipeline.stack.credentials import make_secrets

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
    name: Annotated[str, typer.Option("--name", help="The client, such as hospital-a.")],
    scope: Scopes,
    expires_days: Annotated[
        int | None, typer.Option("--expires-days", min=1, max=3650, help="Default: never.")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Make a key for a client. It is shown once; only its digest is stored.

    Example: `bc-pipeline keys create --name hospital-a --scope predict --scope outcomes`
    """
    from bc_pipeline.auth import api_keys

    expires_at = None if expires_days is None else clock.now() + timedelta(days=expires_days)
    settings = load_settings()
    with _Delivery(out, settings.api_key, as_json=as_json) as delivery:
        api_keys.create_key(
            settings.service_keys, name, scope, expires_at, deliver=delivery.deliver
        )


@app.command("import")
def import_(
    name: Annotated[str, typer.Option("--name", help="The client.")],
    scope: Scopes,
    key_file: Annotated[
        Path, typer.Option("--key-file", help="The key, as the deployment's secret.")
    ],
    as_json: AsJson = False,
) -> None:
    """Accept a key that was made elsewhere; other live keys of that name are revoked.

    Importing a known key changes nothing, so a deployment may do it at each start.

    Example: `bc-pipeline keys import --name prometheus --scope read --key-file prometheus_key`
    """
    from bc_pipeline.auth import api_keys

    try:
        with input_file(key_file, "key-file") as file, file.open("rb") as stream:
            raw = stream.read(_KEY_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The key in {key_file} cannot be read ({type(error).__name__}).",
            "Name a file that holds one key.",
            setting="key-file",
        ) from None
    entry = api_keys.import_key(load_settings().service_keys, name, scope, raw, replacing=True)
    output.report("Key", _describe(entry), as_json=as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show the id, name, scopes and state of every key; never the key itself.

    Example: `bc-pipeline keys list`
    """
    from bc_pipeline.auth.key_store import list_keys

    settings = load_settings()
    if settings.service_keys_file is None:
        require_folder(settings.home, "BC_HOME")
    entries = [_describe(entry) for entry in list_keys(settings.service_keys)]
    columns = ("id", "name", "state", "scopes", "created_at", "expires_at", "rotated_to")
    rows = ([entry[column] for column in columns] for entry in entries)
    output.show({"keys": entries}, output.table("Keys", columns, rows), as_json=as_json)


@app.command("revoke")
def revoke(which: Which, as_json: AsJson = False) -> None:
    """Refuse a key from now on; running services follow within a second.

    A name stands for all live keys of that name. Example: `bc-pipeline keys revoke hospital-a`
    """
    from bc_pipeline.auth import api_keys

    revoked = api_keys.revoke_key(load_settings().service_keys, which)
    result = {"revoked": [entry.id for entry in revoked]}
    output.report("Revoked", result, as_json=as_json)


@app.command("rotate")
def rotate(
    which: Which,
    overlap_hours: Annotated[
        float,
        typer.Option(
            min=0,
            max=87_600,
            help="How long the old key stays valid.",
            callback=require_finite,
        ),
    ] = 24,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Make a key of the same name and scopes; the old one ends after the overlap.

    Where the service's own key file contains the old key, the new one is written there instead of
    shown.

    Example: `bc-pipeline keys rotate hospital-a --overlap-hours 48`
    """
    from bc_pipeline.auth import api_keys

    settings = load_settings()
    overlap = timedelta(hours=overlap_hours)
    with _Delivery(out, settings.api_key, as_json=as_json) as delivery:
        api_keys.rotate_key(settings.service_keys, which, overlap, deliver=delivery.deliver)


@dataclass
class _Delivery:
    """Gives a key to its user before it is valid, and reports the file that has it afterwards.

    An error in the block undoes what was written to a file.

    Attributes
    ----------
    out : Path or None
        The file that the user named; standard output otherwise.
    own_file : Path
        The service's key file, in which a new key replaces the one that is there.
    """

    out: Path | None
    own_file: Path
    as_json: bool
    undo: ExitStack = field(default_factory=ExitStack)
    reported: dict[str, Any] | None = None
    to_stderr: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.undo.close()
        elif self.reported is not None:
            output.report("Key", self.reported, as_json=self.as_json, to_stderr=self.to_stderr)

    def deliver(self, raw: str, entry: KeyEntry, old: KeyEntry | None) -> None:
        """Write or show the key; it cannot be shown again later."""
        result = _describe(entry)
        if old is not None:
            result |= {"replaces": old.id, "replaced_ends": old.expires_at}
        if self.out is not None:
            self._write_new(raw, self.out)
            self.reported = result | {"file": str(self.out)}
        elif old is not None and old.sha256 == _digest_in(self.own_file):
            self._replace_own(raw)
            self.reported = result | {"file": str(self.own_file)}
        else:
            _show(raw, entry, old, result, as_json=self.as_json)

    def _write_new(self, raw: str, out: Path) -> None:
        with output_file(out, force=False, ask=False, setting="out") as file:
            try:
                file.path.touch(_PRIVATE, exist_ok=False)
            except OSError as error:
                raise ConfigError(
                    f"{out} cannot be created: {error.strerror}.",
                    "Name a new file.",
                    setting="out",
                ) from None
            self.undo.callback(file.path.unlink, missing_ok=True)
            self.to_stderr = file.is_standard_output
            _write_key(raw, file.path)

    def _replace_own(self, raw: str) -> None:
        self.undo.callback(_write_key, self.own_file.read_text(encoding="utf-8"), self.own_file)
        _write_key(raw, self.own_file)


def _write_key(raw: str, path: Path) -> None:
    from bc_pipeline.artifacts.files import write_atomic

    write_atomic(path, raw.strip().encode() + b"\n", mode=_PRIVATE)


def _show(
    raw: str,
    entry: KeyEntry,
    old: KeyEntry | None,
    result: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Show a key on standard output."""
    if as_json:
        output.show_json(result | {"key": raw})
    else:
        # Standard output has the key alone, so that a shell can capture it.
        ends = "never" if entry.expires_at is None else entry.expires_at
        replaced = "" if old is None else f"; {old.id} stays valid until {old.expires_at}"
        output.say(
            f"Key {entry.id} of {entry.name}, for {', '.join(entry.scopes)}; "
            f"expires: {ends}{replaced}. It cannot be shown again:"
        )
        output.show_text(raw)
    output.flush()


def _describe(entry: KeyEntry) -> dict[str, Any]:
    """The public fields of a key, which do not include its digest."""
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


def _digest_in(path: Path) -> str:
    from bc_pipeline.artifacts.files import sha256_bytes

    try:
        return sha256_bytes(path.read_bytes().strip())
    except OSError:
        return ""
