from __future__ import annotations

import pytest

from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import read_registry, write_registry
from bc_pipeline.artifacts.signed_document import write_signed
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.versions import list_versions, open_champion
from bc_pipeline.errors import ArtifactCorrupt, NoChampion, SignatureInvalid
from bc_pipeline.settings import Settings


def test_no_registry_is_generation_zero(store: Store, settings: Settings) -> None:
    registry = read_registry(store)
    assert (registry.generation, registry.production) == (0, None)
    assert list_versions(store) == []
    with pytest.raises(NoChampion, match="make up"):
        open_champion(store, settings.verify_key)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"{}", "cannot be read"),
        (b'{"format": 3, "new": []}', "format 3; this code reads up to format 1"),
        (b'{"format": 1, "problem": "wdbc"}', "not a valid registry"),
        (b'{"format": 1, "problem": "rna", "generation": 0}', "is that of rna"),
    ],
)
def test_a_registry_that_cannot_be_read_is_corrupt(
    store: Store, content: bytes, message: str
) -> None:
    write_signed(store, store.registry, content)
    with pytest.raises(ArtifactCorrupt, match=message):
        read_registry(store)


def test_a_registry_that_was_edited_is_refused(store: Store) -> None:
    write_registry(store, Registry(problem="wdbc", generation=1))
    data = store.registry.read_bytes()
    store.registry.write_bytes(data.replace(b'"generation": 1', b'"generation": 1000000000'))
    with pytest.raises(SignatureInvalid, match=r"models/wdbc/registry.json was changed") as caught:
        read_registry(store)
    assert "bc-pipeline registry --repair" in caught.value.remedy
    store.registry.write_bytes(data)
    assert read_registry(store).generation == 1


def test_a_registry_keeps_the_signatures_of_its_last_two_contents(store: Store) -> None:
    contents = []
    for generation in (1, 2, 3):
        write_registry(store, Registry(problem="wdbc", generation=generation))
        contents.append(store.registry.read_bytes())
    assert len(list(store.models.glob("registry.json.*.sig"))) == 2
    # A reader between the two writes of a release has the bytes of before.
    store.registry.write_bytes(contents[1])
    assert read_registry(store).generation == 2
    store.registry.write_bytes(contents[0])
    with pytest.raises(SignatureInvalid):
        read_registry(store)
