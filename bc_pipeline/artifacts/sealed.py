"""A folder of files under one signed manifest: the form of a model version.

A reader checks the signature over the very bytes of the manifest that it parses, and the
digest over the very bytes of a file that it uses; no path is opened twice.

The two files that are the model may stand encrypted. Digests are those of the bytes as they
stand, so that signature and digests are checked without the key; only who runs the model
needs it, and decrypts in memory.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.files import (
    decode_record,
    encode_record,
    sha256_bytes,
    sha256_file,
    write_atomic,
)
from bc_pipeline.artifacts.manifest import MANIFEST_FORMAT, FileEntry, Manifest
from bc_pipeline.encryption import Cipher, box_key_id, is_box
from bc_pipeline.errors import (
    ArtifactCorrupt,
    DecryptionFailed,
    SignatureInvalid,
    VersionNotFound,
)

# Names of the files in the folder.
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MODEL = "model.onnx"
ESTIMATOR = "model.joblib"
EVALUATION = "evaluation.json"
VERDICT = "verdict.json"
CARD = "card.md"
FIGURES = "figures"

_SEAL = frozenset({MANIFEST, SIGNATURE})
# What a key for artifacts encrypts.
_MODELS = frozenset({MODEL, ESTIMATOR})
# Enough of a file to see whether it is encrypted, and with which key.
_HEAD_BYTES = 64
# A manifest is a few kilobytes; a reader must not be made to load anything larger.
_MANIFEST_LIMIT = 4 * 1024 * 1024


def encrypted(version: str, name: str, data: bytes, cipher: Cipher | None) -> bytes:
    """A file's bytes as they are to stand in a version's folder.

    Only the model is encrypted, and only where there is a key. The same bytes of the same
    version give the same result, so that a run that is made again changes nothing; they do
    not open as another file or in another version.
    """
    if cipher is None or name not in _MODELS:
        return data
    return cipher.seal_same(data, _place(version, name))


def _place(version: str, name: str) -> bytes:
    return f"{version}/{name}".encode()


def seal(draft: Manifest, folder: Path, signing_key: Path) -> Manifest:
    """Write manifest and signature for what now stands in a folder, where it stands.

    Parameters
    ----------
    draft : Manifest
        Its `files` are filled in.
    folder : Path
        Of files that belong to the version; sealing again after a change is fine.

    Returns
    -------
    Manifest
        As written and read again: lists where the draft may hold tuples.
    """
    (folder / SIGNATURE).unlink(missing_ok=True)
    for leftover in list(folder.rglob(".*")):
        # A write that was killed leaves its temporary file or folder.
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    manifest = msgspec.structs.replace(
        draft,
        files={
            name: FileEntry(sha256_file(folder / name), (folder / name).stat().st_size)
            for name in sorted(_names(folder) - _SEAL)
        },
    )
    data = encode_record(manifest)
    write_atomic(folder / MANIFEST, data)
    write_atomic(folder / SIGNATURE, signing.sign(data, signing_key))
    return decode_record(data, Manifest, folder / MANIFEST)


@dataclass(frozen=True)
class VersionFiles:
    """A version whose manifest bears a valid signature; its files are checked when read.

    Attributes
    ----------
    folder : Path
    manifest : Manifest
    manifest_sha256 : str
        Of the manifest's bytes, as the registry's pointer carries it.
    cipher : Cipher or None
        What opens the model where it stands encrypted; nothing else needs it.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str
    cipher: Cipher | None = field(default=None, repr=False, compare=False)

    def read(self, name: str) -> bytes:
        """What one file says: its bytes, checked, and decrypted where they are encrypted.

        Raises
        ------
        ArtifactCorrupt
            Where the manifest does not list the file, or its bytes differ.
        DecryptionFailed
            Where it is encrypted, and the key is missing or another one.
        """
        data = self.stored(name)
        if name not in _MODELS or not is_box(data):
            return data
        version, key_id = self.manifest.version, box_key_id(data)
        if self.cipher is None or key_id not in self.cipher.key_ids:
            at_hand = f"the key {self.cipher.key_id}" if self.cipher else "no key"
            raise DecryptionFailed(
                f"{name} of version {version} is encrypted with the key {key_id}; "
                f"BC_ARTIFACT_KEY_FILE gives {at_hand}.",
                "Let it name a file with the key that the version was made with.",
                key_id=key_id,
            )
        return self.cipher.open(data, _place(version, name))

    @property
    def encrypted(self) -> bool:
        """Whether the model stands encrypted.

        Raises
        ------
        ArtifactCorrupt
        """
        return any(is_box(self.stored(name)) for name in _MODELS & set(self.manifest.files))

    def stored(self, name: str) -> bytes:
        """The bytes of one file as they stand, read once and checked against the manifest.

        Raises
        ------
        ArtifactCorrupt
            Where the manifest does not list the file, or its bytes differ.
        """
        entry = self.manifest.files.get(name)
        path = self.folder / name
        if entry is None:
            raise ArtifactCorrupt(
                f"{name} is not a file of version {self.manifest.version}.", path=str(path)
            )
        try:
            with path.open("rb") as stream:
                data = stream.read(entry.size + 1)
        except OSError as error:
            raise ArtifactCorrupt(
                f"{name} of version {self.manifest.version} cannot be read: {error.strerror}.",
                path=str(path),
            ) from None
        if len(data) != entry.size or sha256_bytes(data) != entry.sha256:
            raise ArtifactCorrupt(
                f"{name} of version {self.manifest.version} is not the file that was signed.",
                path=str(path),
            )
        return data

    def verify_all(self) -> None:
        """Check every file, and that there is none besides.

        Raises
        ------
        ArtifactCorrupt
            Naming all the files that are wrong.
        """
        wrong = [
            f"{name} was added"
            for name in sorted(_names(self.folder) - _SEAL - set(self.manifest.files))
        ]
        for name in sorted(self.manifest.files):
            try:
                self.stored(name)
            except ArtifactCorrupt:
                state = "differs" if (self.folder / name).exists() else "is missing"
                wrong.append(f"{name} {state}")
        if wrong:
            raise ArtifactCorrupt(
                f"Version {self.manifest.version} is damaged: {'; '.join(wrong)}.",
                "Restore its folder from a backup, or make the version anew.",
                path=str(self.folder),
            )


def key_needed(folder: Path) -> str | None:
    """Id of the key that a version's model is encrypted with; None where it is plain.

    Nothing is verified: for telling people which key to look for.
    """
    for name in sorted(_MODELS):
        try:
            with (folder / name).open("rb") as stream:
                head = stream.read(_HEAD_BYTES)
        except OSError:
            continue
        if is_box(head):
            return box_key_id(head)
    return None


def open_version(folder: Path, verify_key: Path, cipher: Cipher | None = None) -> VersionFiles:
    """Open a version's folder: signature first, then the manifest.

    Parameters
    ----------
    cipher : Cipher, optional
        `Settings.artifact_cipher`, for who runs the model.

    Raises
    ------
    VersionNotFound
        Where there is no such folder.
    SignatureInvalid
        Where the manifest is not signed, or not by this key.
    ArtifactCorrupt
        Where there is no manifest, or none that this code can read.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise VersionNotFound(f"There is no version in {folder}.", version=folder.name)
    data = _read_manifest(path)
    try:
        signature = (folder / SIGNATURE).read_bytes()
    except FileNotFoundError:
        raise SignatureInvalid(f"The manifest in {folder} is not signed.", path=str(path)) from None
    signing.verify(data, signature, verify_key, source=str(path))
    require_format(data, MANIFEST_FORMAT, path)
    manifest = decode_record(data, Manifest, path)
    unsafe = [name for name in manifest.files if not _is_safe(name)]
    if unsafe:
        raise ArtifactCorrupt(
            f"The manifest in {folder} names files outside its folder: {unsafe}.",
            path=str(path),
        )
    return VersionFiles(folder, manifest, sha256_bytes(data), cipher)


def _names(folder: Path) -> set[str]:
    """Every file below a folder, as relative POSIX names; a link counts as a file."""
    return {
        entry.relative_to(folder).as_posix()
        for entry in folder.rglob("*")
        if entry.is_symlink() or not entry.is_dir()
    }


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        path.as_posix() == name
        and not path.is_absolute()
        and not {"..", "."} & set(path.parts)
        and "\\" not in name
        and "\0" not in name
        and name not in _SEAL
    )


def _read_manifest(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MANIFEST_LIMIT + 1)
    except OSError as error:
        raise ArtifactCorrupt(
            f"{path.name} in {path.parent} cannot be read: {error.strerror}.", path=str(path)
        ) from None
    if len(data) > _MANIFEST_LIMIT:
        raise ArtifactCorrupt(f"{path.name} in {path.parent} is too large.", path=str(path))
    return data


class _Format(msgspec.Struct):
    format: int


def require_format(data: bytes, known: int, path: Path) -> None:
    """Look at a record's format number, before the strict reader meets unknown fields.

    Earlier formats are read: a new field has a default.

    Raises
    ------
    ArtifactCorrupt
    """
    try:
        found = msgspec.json.decode(data, type=_Format).format
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(f"{path.name} cannot be read: {error}.", path=str(path)) from None
    if not 1 <= found <= known:
        raise ArtifactCorrupt(
            f"{path.name} has format {found}; this code reads up to format {known}.",
            "Use the release of bc-pipeline that wrote it, or a later one.",
            path=str(path),
        )
