"""Rotation of the key that signs, with a time in which readers trust the old and the new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bc_pipeline.artifacts import key_files, signing
from bc_pipeline.artifacts.audit_log import Event, read_audit_log
from bc_pipeline.artifacts.files import locked, write_atomic
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import list_versions
from bc_pipeline.errors import ConfigError
from bc_pipeline.promotion import audit
from bc_pipeline.settings import Settings
from bc_pipeline.stack.resigning import (
    bundle_signer,
    file_signer,
    list_challengers,
    list_signed_files,
    resign_challenger,
    resign_file,
    resign_version,
)

# Names of the files in a folder that is to be deployed, as of the secrets in containers.
SIGNING_KEY, VERIFY_KEY = "signing_key", "verify_key"


@dataclass(frozen=True)
class Rotation:
    """A new signing key.

    Attributes
    ----------
    key_id, replaces : str
        The new key and the one before.
    trusted : tuple of str
        What the new file of public keys holds.
    files : tuple of Path
        Private and public keys, as written.
    deployed : bool
        Whether these are the files in use; else somebody has to deploy them.
    """

    key_id: str
    replaces: str
    trusted: tuple[str, ...]
    files: tuple[Path, Path]
    deployed: bool


def list_stores(settings: Settings) -> Iterator[Store]:
    """The store of every problem on the volume."""
    models = settings.home / "models"
    for folder in sorted(models.iterdir()) if models.is_dir() else []:
        if folder.is_dir() and not folder.name.startswith("."):
            yield Store.of(settings, folder.name)


def rotate_signing_key(settings: Settings, *, actor: str, out: Path | None = None) -> Rotation:
    """Make a new signing pair; the old public key stays trusted.

    Parameters
    ----------
    out : Path, optional
        A new folder for the files, where those in use are secrets of a deployment. They must be
        deployed: the public keys to all readers first.

    Raises
    ------
    AuditBroken, SignatureInvalid
        Where an audit log does not verify with the keys of now.
    ConfigError
        Where the keys of now are no pair, or files cannot be written.
    """
    private, public = settings.signing_key, settings.verify_key
    former = signing.key_id(private)
    if former not in signing.load_public_keys(public):
        raise ConfigError(
            f"BC_VERIFY_KEY_FILE does not hold the public key of the signing key {former}.",
            "Set both to the keys of one pair.",
            setting="BC_VERIFY_KEY_FILE",
        )
    stores = list(list_stores(settings))
    for store in stores:
        read_audit_log(store)
    pem = signing.new_private_key()
    if out is None:
        key_files.replace_pair(private, public, pem)
        files = private, public
        record_key(settings, "key_rotated", {"replaces": former}, actor)
    else:
        files = _write_pair(out, private, public, pem)
    return Rotation(
        key_id=signing.key_id(files[0]),
        replaces=former,
        trusted=tuple(signing.load_public_keys(files[1])),
        files=files,
        deployed=out is None,
    )


def retire_key(settings: Settings, key_id: str, *, actor: str) -> int:
    """End the time in which two keys are trusted: sign again, and stop trusting the former key.

    Returns
    -------
    int
        Files and versions that the former key had signed, and the present one signed again.

    Raises
    ------
    ConfigError
        Where the key is the one that signs, or is not a trusted one.
    AuditBroken, SignatureInvalid, ArtifactCorrupt
        Where something that the key signed does not verify: nothing is removed then.
    """
    require_former_key(settings, key_id)
    if key_id in declared_distrusted(settings):
        raise ConfigError(
            f"{key_id} is distrusted: what it signed since then must not be signed again.",
            "Repeat `bc-pipeline keys distrust`, or remove the key from BC_VERIFY_KEY_FILE.",
            setting="BC_VERIFY_KEY_FILE",
        )
    signed = sum(_resign(store, key_id) for store in list_stores(settings))
    record_key(settings, "key_retired", {"retired": key_id}, actor)
    stop_trusting(settings, key_id)
    return signed


def _resign(store: Store, key_id: str) -> int:
    audit.verify(store)
    signed = 0
    for version in list_versions(store):
        if bundle_signer(store, store.version(version))[0] == key_id:
            resign_version(store, version)
            signed += 1
    for folder in list_challengers(store):
        if bundle_signer(store, folder)[0] == key_id:
            resign_challenger(store, folder)
            signed += 1
    for path in list_signed_files(store):
        if file_signer(store, path) == key_id:
            with locked(store.registry_lock):
                resign_file(store, path)
            signed += 1
    return signed


def require_former_key(settings: Settings, key_id: str) -> None:
    """Require that a key is trusted, and that another trusted one signs.

    Raises
    ------
    ConfigError
    """
    present = signing.key_id(settings.signing_key)
    if key_id == present:
        raise ConfigError(
            f"{key_id} is the key that signs now.",
            "Replace it first: `bc-pipeline keys rotate-signing`.",
            setting="BC_SIGNING_KEY_FILE",
        )
    trusted = signing.load_public_keys(settings.verify_key)
    if key_id not in trusted:
        raise ConfigError(
            f"There is no trusted key {key_id}; trusted are {', '.join(trusted)}, of which "
            f"{present} signs now.",
            "See `bc-pipeline keys trusted`; without its public key in BC_VERIFY_KEY_FILE nothing "
            "that a key signed is trusted, or can be signed again.",
            setting="BC_VERIFY_KEY_FILE",
        )
    if present not in trusted:
        raise ConfigError(
            f"BC_VERIFY_KEY_FILE holds {', '.join(trusted)}, and not {present}, which signs now.",
            "Add its public key to the file: it signs again what stays trusted.",
            setting="BC_VERIFY_KEY_FILE",
        )


def stop_trusting(settings: Settings, key_id: str) -> None:
    """Remove a key from the public keys in use, unless they cannot be written, as secrets."""
    with suppress(ConfigError):
        key_files.remove_public_key(settings.verify_key, key_id)


def list_keys(settings: Settings) -> list[dict[str, Any]]:
    """The trusted keys: id, whether it signs, and what was declared about it."""
    trusted = signing.load_public_keys(settings.verify_key)
    present = signing.key_id(settings.signing_key) if settings.signing_key.is_file() else None
    declared = declared_distrusted(settings)
    return [
        {
            "key_id": key_id,
            "signs": key_id == present,
            "trusted": key_id in trusted,
            "distrusted_since": declared.get(key_id),
        }
        for key_id in dict.fromkeys([*trusted, *([present] if present else []), *declared])
    ]


def declared_distrusted(settings: Settings) -> dict[str, str]:
    """Since when a key is distrusted, by its id, as the audit logs say."""
    return {
        key_id: line.details["since"]
        for store in list_stores(settings)
        for key_id, line in read_audit_log(store).distrusted_keys.items()
    }


def record_key(settings: Settings, event: Event, details: dict[str, str], actor: str) -> None:
    """Write a line about a key to every audit log that has lines."""
    details = {"key_id": signing.key_id(settings.signing_key)} | details
    for store in list_stores(settings):
        if store.audit.exists():
            audit.append(
                store,
                event,
                generation=read_registry(store).generation,
                actor=actor,
                details=details,
            )


def _write_pair(folder: Path, private: Path, public: Path, pem: bytes) -> tuple[Path, Path]:
    """Write the new files with the modes of those in use."""
    files = folder / SIGNING_KEY, folder / VERIFY_KEY
    try:
        folder.mkdir(mode=0o700, parents=False)
        write_atomic(files[0], pem, mode=private.stat().st_mode & 0o777)
        merged = key_files.merged_public_keys(public, pem)
        write_atomic(files[1], merged, mode=public.stat().st_mode & 0o777)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made: {error.strerror}.",
            "Name a new folder in an existing one.",
            setting="out",
        ) from None
    return files
