"""A compromised signing key: what stays trusted, and what the champion is then."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts import signing, versions
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.registry import read_registry
from bc_pipeline.artifacts.signed_document import read_signed, write_signed
from bc_pipeline.artifacts.work_folder import open_evaluated
from bc_pipeline.clock import now, parse_time
from bc_pipeline.errors import (
    AuditBroken,
    ConfigError,
    NotStored,
    SignatureInvalid,
    VersionNotFound,
)
from bc_pipeline.promotion import audit
from bc_pipeline.promotion.anchor import read_anchor, set_anchor
from bc_pipeline.stack.distrust import distrust_key
from bc_pipeline.stack.signing_keys import rotate_signing_key, stop_trusting
from tests.unit.commands import run_command
from tests.unit.promotion.conftest import Challengers

SINCE = parse_time("2026-11-20T00:00:00Z")
LATER = "2026-11-21T06:00:00Z"
REASON = "laptop stolen"


@pytest.fixture
def challengers(releases: Any) -> Challengers:
    """The first champion, `a`, was promoted before the key was compromised, `b` after it."""
    made = Challengers(releases)
    made.crown("a")
    made.publish("b")
    assert made.promote("b", at=LATER).changed
    return made


def distrust(settings: Any, key_id: str, **options: Any) -> Any:
    (effect,) = distrust_key(settings, key_id, SINCE, reason=REASON, actor="cli:me", **options)
    return effect


def rotate(settings: Any) -> str:
    """Make a new pair; returns the id of the key before."""
    return rotate_signing_key(settings, actor="cli:me").replaces


def test_the_last_trusted_version_is_the_champion(challengers: Challengers, settings: Any) -> None:
    store = challengers.store
    former = rotate(settings)
    effect = distrust(settings, former)
    assert (effect.champion_before, effect.champion) == ("b", "a")
    assert (effect.trusted, effect.distrusted) == (("a",), ("b",))
    stop_trusting(settings, former)
    assert former not in signing.load_public_keys(settings.verify_key)
    registry = read_registry(store)
    assert (registry.generation, registry.production.version, registry.previous) == (3, "a", None)
    assert versions.open_champion(store, store.verify_key).manifest.version == "a"
    report = audit.verify(store)
    assert report.generation == 3
    # Lines 3 and 4 are the promotion of b.
    assert report.distrusted_lines == 2
    with pytest.raises(VersionNotFound):
        versions.open_stored(store, "b", store.verify_key)
    moved = store.home / "distrusted" / former / "models" / "wdbc" / "versions" / "b"
    with pytest.raises(SignatureInvalid):
        versions.open_version(moved, store.verify_key)
    with pytest.raises(VersionNotFound):
        challengers.rollback("b")
    declared = next(line for line in read_audit_log(store).lines if line.event == "key_distrusted")
    assert declared.key_id == signing.key_id(settings.signing_key)
    assert declared.details["reason"] == REASON
    assert list(declared.details["trusted_versions"]) == ["a"]


def test_the_anchor_is_the_last_trusted_one(challengers: Challengers, settings: Any) -> None:
    store = challengers.store
    with challengers.clock_at(LATER):
        set_anchor(store, "b", actor="mallory", reason="small losses do not matter")
    assert read_anchor(store).version == "b"
    effect = distrust(settings, rotate(settings))
    assert (effect.anchor_before, effect.anchor) == ("b", "a")
    anchor = read_anchor(store)
    assert (anchor.version, anchor.reason) == ("a", None)
    anchor.open(store)


def test_unpublished_challengers_are_moved(challengers: Challengers, settings: Any) -> None:
    store = challengers.store
    challengers.leave("w")
    former = rotate(settings)
    distrust(settings, former)
    with pytest.raises(NotStored):
        open_evaluated(store, "w", store.verify_key)
    assert (store.distrusted(former) / "models" / "wdbc" / "work" / "w").is_dir()


def test_the_pipeline_goes_on_with_the_new_key(challengers: Challengers, settings: Any) -> None:
    former = rotate(settings)
    distrust(settings, former)
    stop_trusting(settings, former)
    challengers.publish("c")
    assert challengers.promote("c", at=None).changed
    assert challengers.champion == "c"
    assert audit.verify(challengers.store).generation == 4


def test_a_signature_of_the_old_key_counts_for_nothing_more(
    challengers: Challengers, settings: Any, tmp_path: Path
) -> None:
    stolen = tmp_path / "stolen.pem"
    stolen.write_bytes(settings.signing_key.read_bytes())
    former = rotate(settings)
    distrust(settings, former)
    stop_trusting(settings, former)
    folder = challengers.store.version("a")
    signature = folder / "manifest.sig"
    signature.write_bytes(signing.sign((folder / "manifest.json").read_bytes(), stolen))
    with pytest.raises(SignatureInvalid, match="trusted key"):
        versions.open_champion(challengers.store, settings.verify_key)


@pytest.mark.parametrize("event", ["declared", "signed", "released"])
def test_an_interrupted_command_goes_on(
    challengers: Challengers, settings: Any, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    from bc_pipeline.stack import distrust as module

    former = rotate(settings)
    name = {"declared": "resign_version", "signed": "_trusted_registry", "released": "move"}[event]

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, name, killed)
        with pytest.raises(KeyboardInterrupt):
            distrust(settings, former)
    distrust(settings, former)
    stop_trusting(settings, former)
    assert challengers.champion == "a"
    assert versions.list_versions(challengers.store) == ["a"]
    assert audit.verify(challengers.store).generation == 3
    events = [line.event for line in read_audit_log(challengers.store).lines]
    assert events.count("key_distrusted") == 1


def test_a_backdated_line_is_found_by_a_tip(releases: Any) -> None:
    made = Challengers(releases)
    made.crown("a")
    tip = audit.verify(made.store).tip
    # The holder of a compromised key can write any time.
    made.publish("b")
    assert made.promote("b").changed
    settings = releases.settings
    former = rotate(settings)
    effect = distrust(settings, former, tips={"wdbc": tip})
    assert (effect.champion_before, effect.champion) == ("b", "a")
    assert effect.last_trusted_line == tip.sequence


def test_a_log_that_was_cut_before_the_tip_is_refused(
    challengers: Challengers, settings: Any
) -> None:
    former = rotate(settings)
    tip = audit.verify(challengers.store).tip
    lines = challengers.store.audit.read_bytes().splitlines(keepends=True)
    challengers.store.audit.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(AuditBroken, match="cut off"):
        distrust(settings, former, tips={"wdbc": tip})
    assert challengers.champion == "b"


def test_without_a_trusted_version_there_is_no_champion(releases: Any) -> None:
    made = Challengers(releases)
    made.publish("b")
    assert made.promote("b", at=LATER).changed
    former = rotate(releases.settings)
    effect = distrust(releases.settings, former)
    assert (effect.champion_before, effect.champion) == ("b", None)
    stop_trusting(releases.settings, former)
    assert audit.verify(made.store).generation == 2
    assert made.champion is None
    made.publish("c")
    assert made.promote("c", at=None).changed


def test_a_version_that_the_new_key_signed_stays(challengers: Challengers, settings: Any) -> None:
    former = rotate(settings)
    challengers.publish("c")
    assert challengers.promote("c", at=None).changed
    effect = distrust(settings, former)
    stop_trusting(settings, former)
    assert (effect.champion_before, effect.champion) == ("c", "c")
    registry = read_registry(challengers.store)
    assert (registry.generation, registry.previous.version) == (3, "a")


def test_rows_of_trusted_versions_stay_and_others_are_moved(
    challengers: Challengers, settings: Any
) -> None:
    store = challengers.store
    # Lineage of the versions names dataset `d`, batch `b` and validation `v`.
    used = [
        store.batch_document("b"),
        store.quarantined("b"),
        store.batch_history("b"),
        store.dataset_document("d"),
        store.validation_document("v"),
    ]
    unused = [store.batch_document("x"), store.dataset_document("y"), store.batch_history("x")]
    for path in [*used, *unused]:
        write_signed(store, path, b"{}")
    for path in (store.batch_rows("b"), store.batch_rows("x"), store.dataset_rows("y")):
        path.write_bytes(b"rows")
    former = rotate(settings)
    assert distrust(settings, former).moved == 3
    stop_trusting(settings, former)
    for path in used:
        assert read_signed(store, path) == b"{}"
    for path in unused:
        assert not list(path.parent.glob(f"{path.stem}.*"))
        moved = store.home / "distrusted" / former / store.relative(path)
        assert moved.read_bytes() == b"{}"
    distrusted = store.home / "distrusted" / former
    for path in (store.batch_rows("x"), store.dataset_rows("y")):
        assert (distrusted / store.relative(path)).read_bytes() == b"rows"
    assert store.batch_rows("b").read_bytes() == b"rows"


def test_the_key_that_signs_is_replaced_first(challengers: Challengers, settings: Any) -> None:
    with pytest.raises(ConfigError, match="signs now"):
        distrust(settings, signing.key_id(settings.signing_key))
    with pytest.raises(ConfigError, match="There is no trusted key"):
        distrust(settings, "0" * 16)
    former = rotate(settings)
    with pytest.raises(ConfigError, match="future"):
        distrust_key(settings, former, now() + timedelta(days=1), reason=REASON, actor="a")
    assert challengers.champion == "b"


@pytest.mark.parametrize("trusted", [True, False])
def test_promote_with_the_distrusted_key_is_refused_by_name(
    challengers: Challengers, settings: Any, trusted: bool
) -> None:
    """The key of a worker whose secret was not replaced, before and after readers dropped it."""
    stolen = settings.signing_key.read_bytes()
    former = rotate(settings)
    distrust(settings, former)
    if not trusted:
        stop_trusting(settings, former)
    challengers.publish("c")
    settings.signing_key.write_bytes(stolen)
    refused = run_command("promote", "c", "--reason", "r", "--json", code=3)
    assert former in json.loads(refused.stdout)["error"]["message"]
    assert challengers.champion == "a"
    assert audit.verify(challengers.store).generation == 3
