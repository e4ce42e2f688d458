from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts import signed_bundle, signing, versions
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.registry import read_registry, write_registry
from bc_pipeline.artifacts.verdict import Check
from bc_pipeline.errors import (
    ArtifactCorrupt,
    NoChampion,
    NotReleasable,
    SignatureInvalid,
    VersionConflict,
    VersionNotFound,
)
from bc_pipeline.promotion import audit, decisions, release, transition


def _events(challengers: Any) -> list[tuple[str, str, int]]:
    return [
        (line.event, line.version, line.generation)
        for line in read_audit_log(challengers.store).lines
    ]


# Promotion


def test_the_first_model_becomes_champion(challengers: Any) -> None:
    manifest = challengers.publish("v1")
    result = challengers.promote("v1", approved_by="dr.who")
    assert result.changed
    assert result.registry == read_registry(challengers.store)
    live = result.registry.production
    assert (result.registry.generation, result.registry.previous) == (1, None)
    assert (live.version, live.model, live.kind) == ("v1", "Logistic regression", "first")
    assert (live.f1, live.threshold) == (manifest.metrics["f1"], manifest.threshold)
    assert (live.promoted_at, live.approved_by) == ("2026-11-15T06:00:00Z", "dr.who")
    champion = versions.open_champion(challengers.store, challengers.verify_key)
    assert champion.manifest_sha256 == live.manifest_sha256
    assert _events(challengers) == [("release_started", "v1", 1), ("promotion", "v1", 1)]
    line = read_audit_log(challengers.store).lines[-1]
    assert (line.actor, line.run_id) == ("test", "run")
    assert line.details["approved_by"] == "dr.who"
    assert line.details["manifest_sha256"] == live.manifest_sha256


def test_a_champion_is_replaced_and_remembered(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    registry = read_registry(challengers.store)
    assert registry.generation == 2
    assert registry.production.version == "v2"
    assert registry.previous.version == "v1"
    assert read_audit_log(challengers.store).lines[-1].details["replaces"] == "v1"
    audit.verify(challengers.store)


def test_promoting_twice_changes_nothing(challengers: Any) -> None:
    challengers.crown("v1")
    before = challengers.store.registry.read_bytes(), challengers.store.audit.read_bytes()
    assert not challengers.promote("v1").changed
    assert before == (
        challengers.store.registry.read_bytes(),
        challengers.store.audit.read_bytes(),
    )


def test_a_champion_that_was_replaced_does_not_come_back(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    assert not challengers.promote("v1").changed
    challengers.rollback()
    assert not challengers.promote("v2").changed
    assert challengers.champion == "v1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verdict": {"passed": False, "reasons": ("f1 fell", "too slow")}}, "too slow"),
        ({"verdict": {"passed": False}}, "its verdict is a rejection"),
        (
            {"verdict": {"checks": (Check("parity", "equal", passed=False, blocking=True),)}},
            "blocking check failed: equal",
        ),
        ({"verdict": {"challenger": "v9"}}, "its verdict is about v9"),
        ({"evaluation": {"champion_generation": 7}}, "do not belong together"),
        ({"live": False}, "backfilled run"),
        ({"without": "verdict.json"}, "holds no verdict.json"),
        ({"without": "evaluation.json"}, "holds no evaluation.json"),
    ],
)
def test_what_its_evidence_does_not_carry_is_not_promoted(
    challengers: Any, changes: dict[str, Any], reason: str
) -> None:
    challengers.crown("v1")
    challengers.publish("v2", **changes)
    with pytest.raises(NotReleasable) as caught:
        challengers.promote("v2")
    assert caught.value.version == "v2"
    assert any(reason in text for text in caught.value.reasons)
    assert challengers.champion == "v1"
    assert audit.verify(challengers.store).lines == 2


def test_every_reason_is_given_at_once(challengers: Any) -> None:
    challengers.publish(
        "v1", live=False, verdict={"passed": False, "reasons": ("f1 fell", "too slow")}
    )
    with pytest.raises(NotReleasable) as caught:
        challengers.promote("v1")
    assert len(caught.value.reasons) == 3


def test_an_advisory_check_does_not_block(challengers: Any) -> None:
    check = Check("slice", "worst slice", passed=False, blocking=False)
    challengers.publish("v1", verdict={"checks": (check,)})
    assert challengers.promote("v1").changed


def test_a_verdict_about_another_champion_is_a_conflict(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    challengers.publish("v3")
    challengers.promote("v2")
    with pytest.raises(VersionConflict, match="new run") as caught:
        challengers.promote("v3")
    assert caught.value.expected == "v1 at generation 1"
    assert caught.value.found == "v2 at generation 2"
    assert challengers.champion == "v2"


def test_a_champion_that_came_back_is_not_the_one_of_the_verdict(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v3")
    challengers.crown("v2")
    challengers.rollback("v1")
    with pytest.raises(VersionConflict):
        challengers.promote("v3")


def test_a_damaged_version_is_not_promoted(challengers: Any) -> None:
    challengers.publish("v1")
    (challengers.store.version("v1") / signed_bundle.MODEL).write_bytes(b"other")
    with pytest.raises(ArtifactCorrupt):
        challengers.promote("v1")
    with pytest.raises(VersionNotFound):
        challengers.promote("v2")
    assert challengers.champion is None
    assert not challengers.store.audit.exists()


def test_a_version_of_another_key_is_not_promoted(challengers: Any, tmp_path: Path) -> None:
    challengers.publish("v1")
    signing.make_keys(tmp_path / "s.pem", tmp_path / "v.pem")
    with pytest.raises(SignatureInvalid):
        release.promote(challengers.store, "v1", verify_key=tmp_path / "v.pem", actor="test")


def test_a_champion_with_another_manifest_than_the_released_one_is_refused(
    challengers: Any,
) -> None:
    challengers.crown("v1", "v2")
    registry = read_registry(challengers.store)
    other = msgspec.structs.replace(registry.production, manifest_sha256="0" * 64)
    write_registry(challengers.store, msgspec.structs.replace(registry, production=other))
    for act in (challengers.promote, challengers.rollback):
        with pytest.raises(ArtifactCorrupt, match="v2 is not the one that was released"):
            act("v2")
    # Another version is not compared with it.
    assert challengers.rollback("v1").changed


# Verdicts, staging, approval


def test_a_passed_verdict_stages_the_challenger(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    registry = challengers.record("v2")
    assert registry.staging.version == "v2"
    # Staging makes no generation: verdicts about the champion stay valid.
    assert registry.generation == 1
    registry = challengers.promote("v2").registry
    assert registry.staging is None
    assert registry.production.version == "v2"


def test_a_verdict_is_recorded_once(challengers: Any) -> None:
    challengers.publish("v1")
    first = challengers.record("v1")
    assert challengers.record("v1") == first
    assert _events(challengers) == [("verdict", "v1", 0)]
    line = read_audit_log(challengers.store).lines[0]
    assert line.details["passed"]
    assert line.details["live"]


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"verdict": {"passed": False, "reasons": ("f1 fell",)}}, {}),
        ({"live": False}, {}),
        ({}, {"live": False}),
    ],
)
def test_a_rejected_or_backfilled_challenger_is_recorded_and_not_staged(
    challengers: Any, changes: dict[str, Any], options: dict[str, Any]
) -> None:
    challengers.crown("v1")
    before = challengers.store.registry.read_bytes()
    challengers.publish("v2", **changes)
    assert challengers.record("v2", **options).staging is None
    assert challengers.store.registry.read_bytes() == before
    details = read_audit_log(challengers.store).lines[-1].details
    assert not (details["passed"] and details["live"])


def test_a_challenger_of_an_earlier_champion_is_not_staged(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    challengers.crown("v3")
    assert challengers.record("v2").staging is None
    assert read_audit_log(challengers.store).lines[-1].details["champion"] == "v1"


def test_a_challenger_of_an_earlier_generation_is_not_staged(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    challengers.crown("v3")
    challengers.rollback("v1")
    assert challengers.record("v2").staging is None


def test_a_champion_is_not_staged_again(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    for version in ("v1", "v2"):
        assert challengers.record(version).staging is None


def test_promoting_one_leaves_another_staged(challengers: Any) -> None:
    challengers.publish("v1")
    challengers.publish("v2")
    challengers.record("v2")
    assert challengers.promote("v1").registry.staging.version == "v2"


def test_a_rejected_approval_unstages_and_forbids(challengers: Any) -> None:
    challengers.publish("v1")
    challengers.record("v1")

    shown = versions.open_stored(challengers.store, "v1", challengers.verify_key).manifest_sha256

    def decide(approved: bool, digest: str = shown) -> Any:
        return decisions.record_approval(
            challengers.store,
            "v1",
            approved=approved,
            manifest_sha256=digest,
            verify_key=challengers.verify_key,
            actor="dr.no",
        )

    assert decide(False).staging is None
    with pytest.raises(NotReleasable, match=r"dr\.no rejected it"):
        challengers.promote("v1")
    assert challengers.record("v1").staging is None
    with pytest.raises(ArtifactCorrupt, match=r"dr\.no decided about"):
        decide(True, digest="0" * 64)
    decide(True)
    assert challengers.promote("v1").changed
    approvals = [
        line for line in read_audit_log(challengers.store).lines if line.event == "approval"
    ]
    assert [line.details["approved"] for line in approvals] == [False, True]
    live = read_registry(challengers.store).production
    assert {line.details["manifest_sha256"] for line in approvals} == {live.manifest_sha256}


def test_a_rejected_approval_keeps_the_generation_and_the_champion(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    challengers.publish("v3")
    staged = challengers.record("v3")
    digest = staged.staging.manifest_sha256
    registry = decisions.record_approval(
        challengers.store,
        "v3",
        approved=False,
        manifest_sha256=digest,
        verify_key=challengers.verify_key,
        actor="dr.no",
    )
    assert registry == msgspec.structs.replace(staged, staging=None)
    assert read_registry(challengers.store) == registry
    assert registry.generation == 2
    audit.verify(challengers.store)


# Rollback


def test_a_rollback_goes_to_the_champion_before(challengers: Any) -> None:
    challengers.publish("v1")
    challengers.promote("v1", approved_by="dr.who")
    challengers.crown("v2")
    result = challengers.rollback()
    registry = result.registry
    assert result.changed
    assert (registry.generation, registry.production.version) == (3, "v1")
    assert registry.previous.version == "v2"
    assert registry.production.approved_by == "dr.who"
    assert _events(challengers)[-1] == ("rollback", "v1", 3)
    audit.verify(challengers.store)


def test_a_rollback_goes_to_any_earlier_champion_by_name(challengers: Any) -> None:
    challengers.crown("v1", "v2", "v3")
    assert challengers.rollback("v1").registry.production.version == "v1"
    assert not challengers.rollback("v1").changed
    assert challengers.rollback("v3").registry.generation == 5


def test_a_rollback_needs_a_champion_before(challengers: Any) -> None:
    with pytest.raises(NoChampion):
        challengers.rollback()
    challengers.crown("v1")
    with pytest.raises(VersionNotFound, match="first champion"):
        challengers.rollback()
    challengers.publish("v2")
    with pytest.raises(NotReleasable, match="never in production"):
        challengers.rollback("v2")
    with pytest.raises(VersionNotFound):
        challengers.rollback("v3")
    assert challengers.champion == "v1"


def test_a_rollback_to_a_damaged_version_is_refused(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    (challengers.store.version("v1") / signed_bundle.MODEL).write_bytes(b"other")
    with pytest.raises(ArtifactCorrupt):
        challengers.rollback()
    assert challengers.champion == "v2"


def test_previous_is_known_even_when_the_log_was_moved_away(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    challengers.store.audit.rename(challengers.store.audit.with_suffix(".broken"))
    assert challengers.rollback().registry.production.version == "v1"
    assert audit.verify(challengers.store).generation == 3


# A release that is cut short


class _Killed(BaseException):
    pass


def _die_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Let the n-th call of one of the release's writes be the end of the process."""
    real, calls = getattr(transition, name), iter(range(1, 100))

    def write(*args: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise _Killed
        return real(*args, **named)

    monkeypatch.setattr(transition, name, write)


def test_a_start_without_move_is_abandoned_by_whoever_comes_next(
    challengers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    challengers.publish("v3")
    with monkeypatch.context() as patch:
        _die_at(patch, "write_registry", 1)
        with pytest.raises(_Killed):
            challengers.promote("v2")
    report = audit.verify(challengers.store)
    assert (report.unfinished_release, challengers.champion) == ("v2", "v1")
    challengers.promote("v3")
    assert _events(challengers)[2:] == [
        ("release_started", "v2", 2),
        ("release_abandoned", "v2", 2),
        ("release_started", "v3", 2),
        ("promotion", "v3", 2),
    ]
    assert audit.verify(challengers.store).unfinished_release is None


def test_a_move_without_outcome_is_concluded_as_what_it_was(
    challengers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    with monkeypatch.context() as patch:
        _die_at(patch, "append", 2)
        with pytest.raises(_Killed):
            challengers.promote("v2", actor="airflow", run_id="scheduled", approved_by="dr.who")
    assert audit.verify(challengers.store).unfinished_release == "v2"
    assert challengers.champion == "v2"
    assert not challengers.promote("v2", actor="again").changed
    line = read_audit_log(challengers.store).lines[-1]
    assert (line.event, line.version, line.generation) == ("promotion", "v2", 2)
    assert (line.actor, line.run_id) == ("airflow", "scheduled")
    assert line.details["approved_by"] == "dr.who"
    assert line.details["recovered"]


def test_a_rollback_that_was_cut_short_is_not_rolled_back_by_its_repeat(
    challengers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    challengers.crown("v1", "v2")
    with monkeypatch.context() as patch:
        _die_at(patch, "append", 2)
        with pytest.raises(_Killed):
            challengers.rollback()
    result = challengers.rollback()
    assert result.changed
    assert challengers.champion == "v1"
    assert result.registry.generation == 3
    assert _events(challengers)[-1] == ("rollback", "v1", 3)
