from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import read_registry, write_registry
from bc_pipeline.errors import ArtifactCorrupt, AuditBroken, SignatureInvalid
from bc_pipeline.promotion import audit, transition
from bc_pipeline.promotion.repair import repair_registry


class _Killed(BaseException):
    pass


@pytest.fixture
def released(challengers: Any) -> Registry:
    """v2 followed v1; v3 passed its gate and waits, v4 was rejected by its gate."""
    challengers.crown("v1")
    challengers.publish("v2")
    challengers.record("v2")
    challengers.promote("v2", approved_by="ada")
    challengers.publish("v3")
    challengers.record("v3")
    challengers.publish("v4", verdict={"passed": False, "reasons": ("no",)})
    challengers.record("v4")
    return read_registry(challengers.store)


@pytest.mark.parametrize("damage", ["edited", "lost", "unsigned"])
def test_a_registry_is_made_again_as_it_was(
    challengers: Any, released: Registry, damage: str
) -> None:
    path = challengers.store.registry
    assert released.staging is not None
    assert released.staging.version == "v3"
    if damage == "edited":
        data = path.read_bytes()
        path.write_bytes(data.replace(b'"generation": 2', b'"generation": 1000000000'))
    elif damage == "lost":
        path.unlink()
    else:
        for signature in path.parent.glob("registry.json.*.sig"):
            signature.unlink()
    result = repair_registry(challengers.store)
    assert result.changed
    assert result.registry == released
    assert read_registry(challengers.store) == released
    audit.verify(challengers.store)
    assert not repair_registry(challengers.store).changed
    challengers.promote("v3")
    assert challengers.champion == "v3"


def test_a_signed_registry_that_the_log_does_not_know_is_replaced(
    challengers: Any, released: Registry
) -> None:
    write_registry(challengers.store, msgspec.structs.replace(released, generation=10**9))
    with pytest.raises(AuditBroken):
        challengers.promote("v3")
    assert repair_registry(challengers.store).registry == released


def test_an_interrupted_release_is_concluded(
    challengers: Any, released: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(transition, "write_registry", die)
        with pytest.raises(_Killed):
            challengers.promote("v3")
    challengers.store.registry.write_bytes(b"{}")
    repaired = repair_registry(challengers.store).registry
    assert repaired.production is not None
    assert (repaired.generation, repaired.production.version) == (3, "v3")
    report = audit.verify(challengers.store)
    assert (report.generation, report.unfinished_release) == (3, None)


def test_nothing_is_made_of_a_champion_that_is_not_the_one_released(
    challengers: Any, released: Registry
) -> None:
    assert released.production is not None
    path = challengers.store.registry
    path.write_bytes(b"{}")
    model = challengers.store.version("v2") / "model.onnx"
    model.write_bytes(model.read_bytes() + b"x")
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx differs"):
        repair_registry(challengers.store)
    assert path.read_bytes() == b"{}"


def test_before_the_first_release_an_empty_registry_is_made(challengers: Any) -> None:
    challengers.store.models.mkdir(parents=True, exist_ok=True)
    challengers.store.registry.write_bytes(b"junk")
    with pytest.raises(SignatureInvalid):
        read_registry(challengers.store)
    assert repair_registry(challengers.store).registry == Registry(problem="wdbc", generation=0)
    assert read_registry(challengers.store).production is None
