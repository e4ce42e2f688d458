"""A model version sent to Spark executors, which verify it before they load it.

An executor checks the signature, the digests of the files, and that its code is the driver's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bc_pipeline.artifacts.files import sha256_bytes
from bc_pipeline.artifacts.predictors import Predictor, load_predictor
from bc_pipeline.artifacts.signed_bundle import (
    COEFFICIENTS,
    MANIFEST,
    MODEL,
    SIGNATURE,
    VersionFiles,
    open_version,
)
from bc_pipeline.code_version import code_version
from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings

_MODELS = (MODEL, COEFFICIENTS)
# A worker process scores many parts, with one model at a time.
_predictors: dict[str, Predictor] = {}


@dataclass(frozen=True)
class ModelPackage:
    """The signed files of a version, and the key that verifies them.

    Attributes
    ----------
    files : dict of str to bytes
        As stored in the version's folder: the model is encrypted where it is so there.
    verify_key : bytes
        PEM; an executor with ``BC_VERIFY_KEY_FILE`` uses its own instead.
    code : str
        `code_version` of the sender.
    """

    version: str
    manifest_sha256: str
    files: dict[str, bytes]
    verify_key: bytes
    code: str


def pack_model(files: VersionFiles, verify_key: Path) -> ModelPackage:
    """Read the files that executors need.

    Raises
    ------
    ArtifactCorrupt
    """
    signed = {name: (files.folder / name).read_bytes() for name in (MANIFEST, SIGNATURE)}
    models = {name: files.read_stored(name) for name in _MODELS if name in files.manifest.files}
    return ModelPackage(
        version=files.manifest.version,
        manifest_sha256=files.manifest_sha256,
        files=signed | models,
        verify_key=verify_key.read_bytes(),
        code=code_version(),
    )


def open_model_package(settings: Settings, package: ModelPackage) -> Predictor:
    """Verify and load a version; the predictor is cached in the worker process.

    Raises
    ------
    ConfigError
        Where this machine runs other code than the sender.
    SignatureInvalid, ArtifactCorrupt, DecryptionFailed, ModelError
    """
    if code_version() != package.code:
        raise ConfigError(
            f"The executor runs bc-pipeline {code_version()}, the driver {package.code}.",
            "Give both the same release, for example the same image.",
            setting="PYSPARK_PYTHON",
        )
    digest = sha256_bytes(b"".join(package.files[name] for name in sorted(package.files)))
    if digest not in _predictors:
        predictor = _load(settings, package)
        _predictors.clear()
        _predictors[digest] = predictor
    return _predictors[digest]


def _load(settings: Settings, package: ModelPackage) -> Predictor:
    with TemporaryDirectory() as name:
        folder = Path(name) / package.version
        folder.mkdir()
        for file in (MANIFEST, SIGNATURE, *_MODELS):
            if file in package.files:
                (folder / file).write_bytes(package.files[file])
        key = Path(name) / "verify.pem"
        key.write_bytes(package.verify_key)
        files = open_version(folder, settings.verify_key_file or key, settings.artifact_cipher())
        files.require_manifest(package.manifest_sha256)
        return load_predictor(files, settings.threads)
