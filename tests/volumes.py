"""Volumes for tests: new ones, and that of an earlier release."""

from __future__ import annotations

import shutil
from pathlib import Path

from bc_pipeline.artifacts import signed_bundle, signing
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.store_format import claim_store
from bc_pipeline.settings import Settings

FIXTURES = Path(__file__).parent / "contract" / "fixtures"


def new_store(home: Path, problem: str = "wdbc", *, keys_of: Store | None = None) -> Store:
    """The store of a new volume with a format, and with keys of its own or of another volume."""
    store = (
        Store(home, problem)
        if keys_of is None
        else Store(home, problem, keys_of.signing_key, keys_of.verify_key)
    )
    claim_store(home)
    signing.make_keys(store.signing_key, store.verify_key)
    return store


def copy_earlier_store(settings: Settings) -> None:
    """Copy the store of the first release; its private key was not kept, so a new pair signs it.

    Only manifests were signed then.
    """
    shutil.copytree(FIXTURES / "store_1", settings.home)
    settings.verify_key.unlink()
    signing.make_keys(settings.signing_key, settings.verify_key)
    for manifest in settings.home.glob(f"models/*/versions/*/{signed_bundle.MANIFEST}"):
        signature = signing.sign(manifest.read_bytes(), settings.signing_key)
        manifest.with_name(signed_bundle.SIGNATURE).write_bytes(signature)
