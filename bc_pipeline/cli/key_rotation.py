"""Commands for the keys that sign and encrypt: rotation, its end, and a compromised key."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bc_pipeline.cli import output
from bc_pipeline.cli.audit import read_tip
from bc_pipeline.cli.caller import actor, load_settings
from bc_pipeline.cli.options import AsJson
from bc_pipeline.clock import checked_time

if TYPE_CHECKING:
    from bc_pipeline.settings import Settings
    from bc_pipeline.stack.signing_keys import Rotation

Purpose = Literal["artifacts", "records"]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="As `keys trusted` shows it.")]


def trusted(as_json: AsJson = False) -> None:
    """Show which keys sign and verify: id, whether it signs, whether readers trust it.

    Example: `bc-pipeline keys trusted`
    """
    from bc_pipeline.stack.signing_keys import list_keys

    keys = list_keys(load_settings())
    columns = ("key_id", "signs", "trusted", "distrusted_since")
    rows = ([key[column] for column in columns] for key in keys)
    output.show({"keys": keys}, output.table("Signing keys", columns, rows), as_json=as_json)


def rotate_signing(
    out: Annotated[
        Path | None,
        typer.Option(
            help="A new folder for the new files, where those in use are secrets of a deployment."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new signing pair. Readers trust the old public key until `keys retire`.

    Example: `bc-pipeline keys rotate-signing`
    """
    from bc_pipeline.stack.signing_keys import rotate_signing_key

    rotation = rotate_signing_key(load_settings(), actor=actor(), out=out)
    result = {
        "key_id": rotation.key_id,
        "replaces": rotation.replaces,
        "trusted": list(rotation.trusted),
        "signing_key": str(rotation.files[0]),
        "verify_key": str(rotation.files[1]),
        "next": _steps(rotation),
    }
    output.report("New signing key", result, as_json=as_json)


def _steps(rotation: Rotation) -> list[str]:
    private, public = rotation.files
    retire = f"When all readers have it: bc-pipeline keys retire {rotation.replaces}"
    if rotation.deployed:
        return [f"Give {public} to readers that have a copy of their own.", retire]
    return [
        f"1. Replace verify_key of all readers by {public}, and restart them.",
        f"2. Replace signing_key of workers and commands by {private}, and restart them.",
        f"3. Remove {private.parent}.",
        retire,
    ]


def retire(key_id: KeyId, as_json: AsJson = False) -> None:
    """End a rotation: sign again what the former key signed, and let readers trust it no more.

    Example: `bc-pipeline keys retire 3f2a9c1b7d00e1aa`
    """
    from bc_pipeline.stack.signing_keys import retire_key

    settings = load_settings()
    signed = retire_key(settings, key_id, actor=actor())
    result = {"retired": key_id, "signed_again": signed, "next": _removal(settings, key_id)}
    output.report("Retired", result, as_json=as_json)


def distrust(
    key_id: KeyId,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="When somebody else may first have had the key.")
    ],
    reason: Annotated[str, typer.Option(help="For the audit log.")],
    tip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A tip of the audit log that was stored elsewhere before that time; again for "
            "other problems.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Trust nothing that a compromised signing key signed from a time on.

    Needs a new key first: `keys rotate-signing`. What the audit log has before the time stays
    trusted, and the new key signs it again; the last trusted champion is in production; the rest
    is moved to distrusted/ on the volume. Whoever has a key can write any time: with --tip, only
    lines up to the tip are trusted.

    Example: `bc-pipeline keys distrust 3f2a9c1b7d00e1aa --since 2026-11-20 --reason "stolen"`
    """
    from bc_pipeline.artifacts.audit_tip import decode_tip
    from bc_pipeline.stack.distrust import distrust_key
    from bc_pipeline.stack.signing_keys import stop_trusting

    settings = load_settings()
    known = [decode_tip(read_tip(name), name) for name in tip or ()]
    effects = distrust_key(
        settings,
        key_id,
        checked_time(since, "--since"),
        reason=reason,
        actor=actor(),
        tips={one.problem: one for one in known},
    )
    stop_trusting(settings, key_id)
    result = {"key_id": key_id, "next": _removal(settings, key_id)}
    output.show(
        result | {"problems": [asdict(effect) for effect in effects]},
        output.fields("Distrusted", result),
        *(output.fields(effect.problem, asdict(effect)) for effect in effects),
        as_json=as_json,
    )


def rotate_encryption(
    purpose: Annotated[
        Purpose, typer.Argument(metavar="PURPOSE", help="'artifacts' (models) or 'records'.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="A new file, where the one in use is a secret of a deployment."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new key that encrypts. The former ones stay in the file, and decrypt what they did.

    Examples: `bc-pipeline keys rotate-encryption records`
    """
    from bc_pipeline.stack.encryption_keys import rotate_encryption_key

    rotation = rotate_encryption_key(load_settings(), purpose, out)
    steps = ["Restart what read the file at its start: the service and its drainer."]
    if not rotation.deployed:
        steps = [
            f"1. Give {rotation.file} to what decrypts: the service, commands.",
            f"2. Then give it to what encrypts, and restart both; remove {rotation.file}.",
        ]
    result = {
        "key_id": rotation.key_id,
        "replaces": rotation.replaces,
        "decrypting": list(rotation.decrypting),
        "file": str(rotation.file),
        "next": steps,
    }
    output.report("New encryption key", result, as_json=as_json)


def _removal(settings: Settings, key_id: str) -> list[str]:
    """What remains to be done so that no reader trusts a key."""
    from bc_pipeline.artifacts.signing import load_public_keys

    path = settings.verify_key
    keys = list(load_public_keys(path))
    if key_id not in keys:
        return [f"Give {path} to readers that have a copy of their own."]
    position = f"key {keys.index(key_id) + 1} of the {len(keys)} there"
    return [f"{path} cannot be written: remove {position}, for all readers; restart them."]


def register(app: typer.Typer) -> None:
    app.command("trusted")(trusted)
    app.command("rotate-signing")(rotate_signing)
    app.command("rotate-encryption")(rotate_encryption)
    app.command("retire")(retire)
    app.command("distrust")(distrust)
