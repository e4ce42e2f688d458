"""A folder of files with a signed manifest: the form of a model version.

A reader checks the signature over the bytes of the manifest that it parses, and the digest
over the bytes of a file that it uses; no path is opened twice.

The files that contain the model may be encrypted. Digests are those of the stored bytes, so
signature and digests are checked without the key; only a process that runs the model needs it,
and decrypts in memory.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import (
    decode_document,
    encode_document,
    sha256_bytes,
    sha256_file,
    write_atomic,
)
from bc_pipeline.artifacts.manifest import MANIFEST_FORMAT, FileEntry, Manifest
from bc_pipeline.encryption import Cipher, ciphertext_key_id, is_ciphertext
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
COEFFICIENTS = "coefficients.json"
ESTIMATOR = "model.joblib"
EVALUATION = "evaluation.json"
VERDICT = "verdict.json"
CARD = "card.md"
FIGURES = "figures"
IMPORTANCE = "importance.json"
PARITY = "parity.json"
FIGURE_NAMES = (
    "calibration.png",
    "confusion.png",
    "permutation_importance.png",
    "precision_recall.png",
    "roc.png",
)
# Everything that a version may have: no other file is signed.
VERSION_FILES = frozenset(
    {MODEL, COEFFICIENTS, ESTIMATOR, PARITY, EVALUATION, VERDICT, CARD, IMPORTANCE}
).union(f"{FIGURES}/{name}" for name in FIGURE_NAMES)

_UNLISTED = frozenset({MANIFEST, SIGNATURE})
# The files that contain the model: encrypted where BC_ARTIFACT_KEY_FILE is set.
MODEL_FILES = frozenset({MODEL, COEFFICIENTS, ESTIMATOR})
# The first bytes of a file show whether it is encrypted, and with which key.
_HEAD_BYTES = 64
# A manifest is a few kilobytes: a larger file is not loaded.
_MANIFEST_LIMIT = 4 * 1024 * 1024
_D = TypeVar("_D", bound=Document)


def encrypt_if_model(version: str, name: str, data: bytes, cipher: Cipher | None) -> bytes:
    """The bytes to store for a file of a version: encrypted if it is the model and there is a key.

    The same bytes of the same version give the same ciphertext, so repeating a run changes
    nothing. It does not decrypt under another file name or version.
    """
    if cipher is None or name not in MODEL_FILES:
        return data
    return cipher.encrypt_deterministic(data, _context(version, name))


def _context(version: str, name: str) -> bytes:
    return f"{version}/{name}".encode()


def sign_bundle(draft: Manifest, folder: Path, signing_key: Path) -> Manifest:
    """Write the manifest and signature of the files in a folder into the folder.

    Parameters
    ----------
    draft : Manifest
        Its `files` are filled in.
    folder : Path
        May hold an earlier manifest, which is replaced.

    Returns
    -------
    Manifest
        As decoded from the bytes written: with lists where the draft may have tuples.

    Raises
    ------
    ArtifactCorrupt
        Where the folder has a file that is none of `VERSION_FILES`.
    """
    (folder / SIGNATURE).unlink(missing_ok=True)
    for leftover in list(folder.rglob(".*")):
        # A killed write leaves its temporary file or folder.
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    if foreign := sorted(file_names(folder) - _UNLISTED - VERSION_FILES):
        raise ArtifactCorrupt(
            f"{', '.join(foreign)} cannot be signed: no version has such a file.",
            "Remove it from the challenger's folder, and find out who put it there.",
            path=str(folder / foreign[0]),
        )
    manifest = msgspec.structs.replace(
        draft,
        files={
            name: FileEntry(sha256_file(folder / name), (folder / name).stat().st_size)
            for name in sorted(file_names(folder) - _UNLISTED)
        },
    )
    data = encode_document(manifest)
    write_atomic(folder / MANIFEST, data)
    write_atomic(folder / SIGNATURE, signing.sign(data, signing_key))
    return decode_document(data, Manifest, folder / MANIFEST)


@dataclass(frozen=True)
class VersionFiles:
    """A version whose manifest has a valid signature; its files are checked when read.

    Attributes
    ----------
    folder : Path
    manifest : Manifest
    manifest_sha256 : str
        Of the manifest's bytes, as in the registry's pointer.
    cipher : Cipher or None
        Decrypts the model, if it is encrypted.
    unlisted : frozenset of str
        Files of the folder that the manifest does not list.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str
    cipher: Cipher | None = field(default=None, repr=False, compare=False)
    unlisted: frozenset[str] = _UNLISTED

    def read(self, name: str) -> bytes:
        """Read a file, check it against the manifest, and decrypt it if it is encrypted.

        Raises
        ------
        ArtifactCorrupt
            Where the manifest does not list the file, or its bytes differ.
        DecryptionFailed
            Where it is encrypted and the key is missing or another one.
        """
        data = self.read_stored(name)
        if name not in MODEL_FILES or not is_ciphertext(data):
            return data
        version, key_id = self.manifest.version, ciphertext_key_id(data)
        if self.cipher is None or key_id not in self.cipher.key_ids:
            available = f"the key {self.cipher.key_id}" if self.cipher else "no key"
            raise DecryptionFailed(
                f"{name} of version {version} is encrypted with the key {key_id}; "
                f"BC_ARTIFACT_KEY_FILE gives {available}.",
                "Set it to a file with the key that the version was made with.",
                key_id=key_id,
            )
        return self.cipher.decrypt(data, _context(version, name))

    def require_identity(self, problem: str, version: str, folder: str) -> None:
        """Compare the manifest with the problem and version that its folder is named for.

        Raises
        ------
        ArtifactCorrupt
        """
        stated = (self.manifest.problem, self.manifest.version)
        if stated != (problem, version):
            raise ArtifactCorrupt(
                f"The folder of {folder} holds {' '.join(stated)}.", path=str(self.folder)
            )

    def require_manifest(self, sha256: str) -> None:
        """Compare the manifest with the digest of the one that was released.

        Raises
        ------
        ArtifactCorrupt
        """
        if self.manifest_sha256 != sha256:
            raise ArtifactCorrupt(
                f"The manifest of {self.manifest.version} is not the one that was released.",
                path=str(self.folder / MANIFEST),
            )

    def read_document(self, name: str, kind: type[_D], known_format: int | None = None) -> _D:
        """Read a JSON file, and decode it as `decode_document` does; errors as of `read`."""
        return decode_document(self.read(name), kind, self.folder / name, known_format)

    @property
    def encrypted(self) -> bool:
        """Whether the model is encrypted.

        Raises
        ------
        ArtifactCorrupt
        """
        models = MODEL_FILES & set(self.manifest.files)
        return any(is_ciphertext(self.read_stored(name)) for name in models)

    def read_stored(self, name: str) -> bytes:
        """Read a file's stored bytes and check them against the manifest.

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
        data = _read_limited(path, entry.size, f"{name} of version {self.manifest.version}")
        if len(data) != entry.size or sha256_bytes(data) != entry.sha256:
            raise ArtifactCorrupt(
                f"{name} of version {self.manifest.version} is not the file that was signed.",
                path=str(path),
            )
        return data

    def verify_all(self) -> None:
        """Check every file, and that the folder holds no other.

        Raises
        ------
        ArtifactCorrupt
            Naming every file that is missing, differs or was added.
        """
        defects = [
            f"{name} was added"
            for name in sorted(file_names(self.folder) - self.unlisted - set(self.manifest.files))
        ]
        for name in sorted(self.manifest.files):
            try:
                self.read_stored(name)
            except ArtifactCorrupt:
                state = "differs" if (self.folder / name).exists() else "is missing"
                defects.append(f"{name} {state}")
        if defects:
            raise ArtifactCorrupt(
                f"Version {self.manifest.version} is damaged: {'; '.join(defects)}.",
                "Restore its folder from a backup, or make the version again.",
                path=str(self.folder),
            )


def required_key_id(folder: Path) -> str | None:
    """Id of the key that a version's model is encrypted with; None where it is not encrypted.

    Nothing is verified: the id is for messages.
    """
    for name in sorted(MODEL_FILES):
        try:
            with (folder / name).open("rb") as stream:
                head = stream.read(_HEAD_BYTES)
        except OSError:
            continue
        if is_ciphertext(head):
            return ciphertext_key_id(head)
    return None


def open_version(folder: Path, verify_key: Path, cipher: Cipher | None = None) -> VersionFiles:
    """Open a version's folder: verify the signature, then decode the manifest.

    Parameters
    ----------
    cipher : Cipher, optional
        `Settings.artifact_cipher`, where the model is to be run.

    Raises
    ------
    VersionNotFound
        Where there is no such folder.
    SignatureInvalid
        Where the manifest is not signed, or not by this key.
    ArtifactCorrupt
        Where there is no manifest, or this code cannot read it.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise VersionNotFound(f"There is no version in {folder}.", version=folder.name)
    data = _read_limited(path, _MANIFEST_LIMIT, f"{path.name} in {folder}")
    if len(data) > _MANIFEST_LIMIT:
        raise ArtifactCorrupt(f"{path.name} in {folder} is too large.", path=str(path))
    try:
        signature = (folder / SIGNATURE).read_bytes()
    except FileNotFoundError:
        raise SignatureInvalid(f"The manifest in {folder} is not signed.", path=str(path)) from None
    signing.verify(data, signature, verify_key, source=str(path))
    manifest = decode_document(data, Manifest, path, MANIFEST_FORMAT)
    unsafe = [name for name in manifest.files if not _is_safe(name)]
    if unsafe:
        raise ArtifactCorrupt(
            f"The manifest in {folder} names files outside its folder: {unsafe}.",
            path=str(path),
        )
    return VersionFiles(folder, manifest, sha256_bytes(data), cipher)


def file_names(folder: Path) -> set[str]:
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
        and name not in _UNLISTED
    )


def _read_limited(path: Path, limit: int, name: str) -> bytes:
    """Read a file; of one that is larger than the limit, one byte more than that."""
    try:
        with path.open("rb") as stream:
            return stream.read(limit + 1)
    except OSError as error:
        raise ArtifactCorrupt(f"{name} cannot be read: {error.strerror}.", path=str(path)) from None
