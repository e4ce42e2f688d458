"""Which volume a registered model of MLflow mirrors: it belongs to one, and no other writes to it.

A volume is known by the digest of the first line of its audit log, which never changes. A copy of
the volume has the same line, so the folder counts too: a backup that is restored to its place goes
on, and a copy elsewhere is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import list_versions, open_stored
from bc_pipeline.errors import ConfigError, NotStored, StoreError
from bc_pipeline.problems.base import Problem
from bc_pipeline.training.mlflow_tags import MANIFEST_TAG, VERSION_TAG

if TYPE_CHECKING:
    from bc_pipeline.training.tracking import MlflowClient

VOLUME_TAG = "bc.volume"
HOME_TAG = "bc.volume_home"
_ID_LENGTH = 16


@dataclass(frozen=True)
class VolumeIdentity:
    """What the registered model carries of the volume that it mirrors.

    Attributes
    ----------
    volume : str
        Beginning of the digest of the audit log's first line.
    home : str
        The volume's folder.
    """

    volume: str
    home: str

    @property
    def tags(self) -> dict[str, str]:
        return {VOLUME_TAG: self.volume, HOME_TAG: self.home}

    def note(self, title: str) -> str:
        """Description of the experiment and of the registered model."""
        return (
            f"{title}: a mirror of the volume `{self.home}`.\n\nThe registry on the volume decides "
            "which version answers. Each run sets the aliases here to what it says, "
            "and a change here changes nothing there: use `bc-pipeline promote` or "
            "`bc-pipeline rollback`."
        )


def read_identity(store: Store) -> VolumeIdentity:
    """The identity of a problem's volume.

    Raises
    ------
    AuditBroken
    NotStored
        As long as the audit log has no line.
    """
    lines = read_audit_log(store).lines
    if not lines:
        raise NotStored(f"The audit log of {store.problem} has no line yet.")
    return VolumeIdentity(lines[0].sha256[:_ID_LENGTH], str(store.home.resolve()))


def claim_model(
    client: MlflowClient,
    problem: Problem,
    identity: VolumeIdentity,
    store: Store,
    verify_key: Path,
) -> None:
    """Make the registered model this volume's, where it is nobody's yet.

    A model that earlier releases registered bears no volume; it is that of the volume that has one
    of its versions.

    Raises
    ------
    ConfigError
        Where it mirrors another volume, or a copy of this one; nothing was written.
    """
    name, note = problem.name, identity.note(problem.title)
    registered = client.search_registered_models(f"name = '{name}'")
    if not registered:
        client.create_registered_model(name, identity.tags, note)
        return
    model = registered[0]
    if VOLUME_TAG in model.tags:
        _require_own(model.tags, name, identity)
    else:
        _require_own_versions(client, name, store, verify_key)
    for tag, value in identity.tags.items():
        if model.tags.get(tag) != value:
            client.set_registered_model_tag(name, tag, value)
    # A description that people wrote stays.
    if model.description in (None, "", problem.title):
        client.update_registered_model(name, note)


def _require_own(tags: dict[str, str], name: str, identity: VolumeIdentity) -> None:
    volume, home = tags[VOLUME_TAG], tags.get(HOME_TAG, "an unknown folder")
    if volume != identity.volume:
        raise _refusal(
            f"The registered model {name!r} in MLflow mirrors another volume, {home}",
            "rename or delete that model",
        )
    if home != identity.home:
        raise _refusal(
            f"The registered model {name!r} in MLflow mirrors {home}, of which {identity.home} is "
            "a copy",
            f"if this volume replaces it, delete the model's tag {VOLUME_TAG!r}",
        )


def _require_own_versions(client: MlflowClient, name: str, store: Store, verify_key: Path) -> None:
    entries = client.search_model_versions(f"name = '{name}'")
    if entries and not any(_is_on_volume(entry.tags, store, verify_key) for entry in entries):
        raise _refusal(
            f"The registered model {name!r} in MLflow has none of this volume's versions",
            "rename or delete that model",
        )


def _is_on_volume(tags: dict[str, str], store: Store, verify_key: Path) -> bool:
    version = tags.get(VERSION_TAG)
    if version not in list_versions(store):
        return False
    try:
        return open_stored(store, version, verify_key).manifest_sha256 == tags.get(MANIFEST_TAG)
    except StoreError:
        return False


def _refusal(defect: str, remedy: str) -> ConfigError:
    return ConfigError(
        f"{defect}: nothing was written there.",
        f"Name another server, or {remedy}.",
        setting="BC_MLFLOW_TRACKING_URI",
    )
