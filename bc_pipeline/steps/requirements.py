"""What a command needs at its end, checked before it starts to work."""

from __future__ import annotations

from bc_pipeline.artifacts import signing
from bc_pipeline.errors import ConfigError, NotStored, SignatureInvalid
from bc_pipeline.settings import Settings
from bc_pipeline.workspace import open_first_workspace, open_workspace


def require_ready(
    settings: Settings,
    problem: str,
    *,
    first: bool = False,
    champion: bool = False,
    dataset: str = "",
) -> None:
    """Require what a long command would otherwise miss at its end.

    That is a usable volume, the pair of keys that signs, and the key that encrypts models, where a
    setting names one.

    Parameters
    ----------
    first : bool
        Whether a new volume gets its format and keys.
    champion : bool
        Whether there must be one, and it must verify.
    dataset : str
        One that must be stored.

    Raises
    ------
    ConfigError, StoreUnfit
    NoChampion, VersionNotFound, SignatureInvalid, ArtifactCorrupt, DecryptionFailed
    NotStored
    """
    workspace = (open_first_workspace if first else open_workspace)(settings, problem)
    if champion:
        workspace.open_champion()
    require_signing(settings)
    settings.artifact_cipher()
    if dataset and not workspace.store.dataset_document(dataset).exists():
        raise NotStored(
            f"There is no dataset {dataset!r} of {problem}.",
            "`bc-pipeline snapshot` makes one, and names it.",
        )


def require_signing(settings: Settings) -> None:
    """Require a private key that signs, and its public key among those that readers trust.

    Raises
    ------
    ConfigError
    """
    signature = signing.sign(b"", settings.signing_key)
    try:
        signing.verify(b"", signature, settings.verify_key, source="A signature of now")
    except SignatureInvalid:
        raise ConfigError(
            f"{settings.verify_key} lacks the public key of {settings.signing_key}: nobody would "
            "trust what is signed.",
            "Let BC_SIGNING_KEY_FILE and BC_VERIFY_KEY_FILE name the keys of one pair.",
            setting="BC_VERIFY_KEY_FILE",
        ) from None
