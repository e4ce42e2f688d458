"""Everything that a decision writes: audit line, registry, log event; and every refusal in full."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from bc_pipeline.artifacts import signed_bundle, versions
from bc_pipeline.artifacts.audit_log import AuditLine, read_audit_log
from bc_pipeline.artifacts.manifest import Pointer, Registry
from bc_pipeline.artifacts.registry import read_registry, write_registry
from bc_pipeline.clock import format_time, now
from bc_pipeline.errors import (
    ArtifactCorrupt,
    AuditBroken,
    NoChampion,
    NotReleasable,
    PipelineError,
    VersionConflict,
    VersionNotFound,
)
from bc_pipeline.promotion import audit, decisions, release, transition

AT = "2026-11-15T06:00:00Z"


def digest_of(challengers: Any, version: str) -> str:
    files = versions.open_stored(challengers.store, version, challengers.verify_key)
    return files.manifest_sha256


def last_line(challengers: Any) -> dict[str, Any]:
    """The last audit line without its place in the chain."""
    line = msgspec.to_builtins(read_audit_log(challengers.store).lines[-1])
    for name in ("sequence", "previous_sha256", "sha256", "key_id", "signature"):
        del line[name]
    return line


def pointer(challengers: Any, version: str, kind: str, **fields: Any) -> Pointer:
    stored = versions.open_stored(challengers.store, version, challengers.verify_key).manifest
    return Pointer(
        **{
            "version": version,
            "manifest_sha256": digest_of(challengers, version),
            "model": "Logistic regression",
            "recipe": "logistic-0",
            "f1": 0.9,
            "metrics": stored.metrics,
            "threshold": 0.4,
            "dataset": "d",
            "as_of": "2026-11-15T00:00:00Z",
            "kind": kind,
            "promoted_at": AT,
            "approved_by": None,
        }
        | fields
    )


def approve(challengers: Any, version: str, approved: bool, **options: Any) -> Registry:
    options = {"actor": "dr.who", "run_id": "run-7"} | options
    options.setdefault("manifest_sha256", digest_of(challengers, version))
    with challengers.clock_at(options.pop("at", AT)):
        return decisions.record_approval(
            challengers.store,
            version,
            approved=approved,
            verify_key=challengers.verify_key,
            **options,
        )


def settled(challengers: Any) -> Any:
    """What a process sees that locks the registry."""
    with transition.settled_registry(challengers.store) as state:
        return state


def refused(kind: type[PipelineError], act: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
    """Message, remedy and fields of the error of a refusal."""
    with pytest.raises(kind) as caught:
        act(*arguments, **options)
    fields = caught.value.to_dict()
    words = {name: fields.pop(name) for name in ("message", "remedy")}
    del fields["code"]
    return words | {"fields": fields}


# Written lines


def test_a_recorded_verdict(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v2", verdict={"better": True})
    with capture_logs() as events:
        registry = challengers.record("v2", run_id="run-7")
    assert last_line(challengers) == {
        "at": AT,
        "event": "verdict",
        "problem": "wdbc",
        "version": "v2",
        "generation": 1,
        "actor": "pipeline",
        "run_id": "run-7",
        "details": {
            "passed": True,
            "kind": "refresh",
            "better": True,
            "live": True,
            "champion": "v1",
            "champion_generation": 1,
            "policy_digest": "p",
            "manifest_sha256": digest_of(challengers, "v2"),
            "reasons": [],
        },
    }
    assert registry.staging == pointer(challengers, "v2", "refresh")
    assert read_registry(challengers.store) == registry
    assert events == [
        {
            "event": "verdict_recorded",
            "log_level": "info",
            "problem": "wdbc",
            "version": "v2",
            "passed": True,
        }
    ]


def test_a_recorded_rejection_names_its_reasons_and_the_default_actor(challengers: Any) -> None:
    challengers.publish("v1", live=False, verdict={"passed": False, "reasons": ("f1 fell", "slow")})
    challengers.record("v1", run_id=None)
    line = last_line(challengers)
    assert (line["actor"], line["run_id"], line["generation"]) == ("pipeline", None, 0)
    assert line["details"]["reasons"] == ["f1 fell", "slow"]
    assert not line["details"]["passed"]
    assert not line["details"]["live"]


def test_each_version_has_a_verdict_of_its_own_beside_other_lines(challengers: Any) -> None:
    challengers.publish("v1")
    challengers.publish("v2")
    challengers.record("v1")
    approve(challengers, "v2", True)
    challengers.record("v2")
    events = [(line.event, line.version) for line in read_audit_log(challengers.store).lines]
    assert events == [("verdict", "v1"), ("approval", "v2"), ("verdict", "v2")]


def test_a_newer_challenger_replaces_the_staged_one(challengers: Any) -> None:
    challengers.publish("v1")
    challengers.publish("v2")
    challengers.record("v1")
    assert challengers.record("v2").staging.version == "v2"
    # Recorded again, the pointer of the staged one stays as it was.
    again = challengers.record("v2", at="2027-01-01T00:00:00Z")
    assert again.staging == pointer(challengers, "v2", "first")


def test_a_recorded_approval(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    staged = challengers.record("v2")
    before = challengers.store.registry.read_bytes()
    assert approve(challengers, "v2", True) == staged
    assert challengers.store.registry.read_bytes() == before
    assert last_line(challengers) == {
        "at": AT,
        "event": "approval",
        "problem": "wdbc",
        "version": "v2",
        "generation": 1,
        "actor": "dr.who",
        "run_id": "run-7",
        "details": {"approved": True, "manifest_sha256": digest_of(challengers, "v2")},
    }


def test_a_rejection_leaves_another_staged_and_needs_no_staging(challengers: Any) -> None:
    challengers.publish("v1")
    challengers.publish("v2")
    assert approve(challengers, "v1", False).staging is None
    challengers.record("v2")
    assert approve(challengers, "v1", False, run_id=None).staging.version == "v2"
    assert last_line(challengers)["run_id"] is None


def test_a_promotion(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    challengers.record("v2")
    with capture_logs() as events:
        result = challengers.promote("v2", actor="cli:me", run_id="run-7", approved_by="dr.who")
    assert result.changed
    assert result.registry == Registry(
        problem="wdbc",
        generation=2,
        production=pointer(challengers, "v2", "refresh", approved_by="dr.who"),
        staging=None,
        previous=pointer(challengers, "v1", "first"),
    )
    assert read_registry(challengers.store) == result.registry
    expected = {
        "at": AT,
        "event": "promotion",
        "problem": "wdbc",
        "version": "v2",
        "generation": 2,
        "actor": "cli:me",
        "run_id": "run-7",
        "details": {
            "release": "promotion",
            "replaces": "v1",
            "manifest_sha256": digest_of(challengers, "v2"),
            "kind": "refresh",
            "approved_by": "dr.who",
        },
    }
    assert last_line(challengers) == expected
    started = read_audit_log(challengers.store).lines[-2]
    assert started.event == "release_started"
    assert started.details == expected["details"]
    assert [event for event in events if event["event"] == "released"] == [
        {
            "event": "released",
            "log_level": "info",
            "problem": "wdbc",
            "event_kind": "promotion",
            "version": "v2",
            "generation": 2,
            "replaces": "v1",
        }
    ]


def test_a_rollback(challengers: Any) -> None:
    challengers.publish("v1")
    challengers.promote("v1", approved_by="dr.who")
    challengers.crown("v2")
    at = "2027-01-01T00:00:00Z"
    with challengers.clock_at(at):
        result = release.rollback(
            challengers.store, verify_key=challengers.verify_key, actor="cli:me"
        )
    assert result.registry == Registry(
        problem="wdbc",
        generation=3,
        production=pointer(challengers, "v1", "first", promoted_at=at, approved_by="dr.who"),
        staging=None,
        previous=pointer(challengers, "v2", "refresh"),
    )
    assert last_line(challengers) == {
        "at": at,
        "event": "rollback",
        "problem": "wdbc",
        "version": "v1",
        "generation": 3,
        "actor": "cli:me",
        "run_id": None,
        "details": {
            "release": "rollback",
            "replaces": "v2",
            "manifest_sha256": digest_of(challengers, "v1"),
            "kind": "first",
            "approved_by": "dr.who",
        },
    }


def test_what_changes_nothing_returns_the_registry(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    registry = read_registry(challengers.store)
    unchanged = release.ReleaseResult(registry, changed=False)
    for version in ("v1", "v2"):
        assert challengers.promote(version) == unchanged
    result = challengers.rollback("v2")
    assert result == unchanged
    assert result.changed is False


def test_a_decision_has_the_time_of_now(challengers: Any) -> None:
    before = format_time(now())
    challengers.publish("v1")
    challengers.record("v1", at=None)
    approve(challengers, "v1", True, at=None)
    challengers.promote("v1", at=None, actor="test")
    lines = read_audit_log(challengers.store).lines
    assert len(lines) == 4
    assert all(before <= line.at <= format_time(now()) for line in lines)


def test_the_default_actor_of_a_promotion_is_the_pipeline(challengers: Any) -> None:
    challengers.publish("v1")
    release.promote(challengers.store, "v1", verify_key=challengers.verify_key)
    line = last_line(challengers)
    assert (line["actor"], line["run_id"]) == ("pipeline", None)


# Refusals


def test_a_conflict_names_both_champions(challengers: Any) -> None:
    challengers.publish("v2")
    challengers.crown("v1")
    error = refused(VersionConflict, challengers.promote, "v2")
    assert error["message"] == (
        "v2 was compared with no champion at generation 0, and now there is v1 at generation 1."
    )
    assert error["remedy"] == (
        "Start a new run, as of a later time: it is compared with the champion of then."
    )
    assert error["fields"] == {
        "expected": "no champion at generation 0",
        "found": "v1 at generation 1",
    }


def test_a_conflict_may_be_with_no_champion(challengers: Any) -> None:
    changes = {"champion_generation": 4}
    challengers.publish("v2", verdict=changes | {"champion": "v1"}, evaluation=changes)
    error = refused(VersionConflict, challengers.promote, "v2")
    assert error["fields"]["found"] == "no champion at generation 0"
    assert error["fields"]["expected"] == "v1 at generation 4"


def test_every_blocker_is_in_the_error(challengers: Any) -> None:
    challengers.publish(
        "v1",
        live=False,
        verdict={"passed": False, "challenger": "v9", "problem": "toy"},
    )
    approve(challengers, "v1", False, actor="dr.no")
    error = refused(NotReleasable, challengers.promote, "v1")
    reasons = (
        "its verdict is a rejection",
        "its verdict is about v9",
        "its verdict and its evaluation do not belong together",
        "it comes from a backfilled run, which moves no pointer",
        "dr.no rejected it",
    )
    assert error["message"] == f"v1 cannot be promoted: {'; '.join(reasons)}."
    assert error["fields"] == {"version": "v1", "reasons": list(reasons)}


@pytest.mark.parametrize(
    "evaluation",
    [{"problem": "toy"}, {"champion_generation": 1}],
)
def test_an_evaluation_of_something_else_blocks(
    challengers: Any, evaluation: dict[str, Any]
) -> None:
    challengers.publish("v1", evaluation=evaluation)
    error = refused(NotReleasable, challengers.promote, "v1")
    assert error["fields"]["reasons"] == ["its verdict and its evaluation do not belong together"]


def test_the_decision_about_another_version_does_not_count(challengers: Any) -> None:
    challengers.publish("v1")
    challengers.publish("v2")
    approve(challengers, "v2", False)
    assert challengers.promote("v1").changed


@pytest.mark.parametrize("name", ["verdict.json", "evaluation.json"])
def test_a_version_without_its_evidence_is_refused(challengers: Any, name: str) -> None:
    challengers.publish("v1", without=name)
    error = refused(NotReleasable, challengers.promote, "v1")
    assert error["message"] == f"v1 cannot be released: it holds no {name}."
    assert error["fields"] == {"version": "v1", "reasons": [f"it holds no {name}"]}


def test_an_approval_of_another_manifest_is_refused(challengers: Any) -> None:
    challengers.publish("v1")
    error = refused(ArtifactCorrupt, approve, challengers, "v1", True, manifest_sha256="0" * 64)
    assert error["message"] == "The manifest of v1 is not the one that dr.who decided about."
    assert error["remedy"] == "Ask again."
    assert error["fields"]["path"].startswith(str(challengers.store.version("v1")))
    assert not challengers.store.audit.exists()


def test_another_manifest_in_production_is_refused(challengers: Any) -> None:
    challengers.crown("v1")
    registry = read_registry(challengers.store)
    other = msgspec.structs.replace(registry.production, manifest_sha256="0" * 64)
    write_registry(challengers.store, msgspec.structs.replace(registry, production=other))
    error = refused(ArtifactCorrupt, challengers.promote, "v1")
    assert error["message"] == "The manifest of v1 is not the one that was released."
    assert error["fields"]["path"].startswith(str(challengers.store.version("v1")))


def test_rollbacks_that_have_no_target_are_refused(challengers: Any) -> None:
    assert refused(NoChampion, challengers.rollback)["message"] == (
        "No model of wdbc was promoted yet."
    )
    challengers.crown("v1")
    assert refused(VersionNotFound, challengers.rollback)["message"] == (
        "v1 is the first champion: there is none to go back to."
    )


def test_a_rollback_to_what_was_never_in_production_lists_the_choices(challengers: Any) -> None:
    challengers.crown("v2", "v1")
    challengers.publish("v3")
    error = refused(NotReleasable, challengers.rollback, "v3")
    assert error["message"] == "v3 was never in production."
    assert error["remedy"] == "Choose one of: v1, v2."
    assert error["fields"] == {"version": "v3", "reasons": ["it was never in production"]}
    challengers.store.audit.rename(challengers.store.audit.with_suffix(".moved"))
    error = refused(NotReleasable, challengers.rollback, "v3")
    assert error["remedy"] == "Choose one of: none."


def test_a_rollback_without_the_log_has_no_approval(challengers: Any) -> None:
    challengers.publish("v1")
    challengers.promote("v1", approved_by="dr.who")
    challengers.crown("v2")
    challengers.store.audit.rename(challengers.store.audit.with_suffix(".moved"))
    assert challengers.rollback().registry.production.approved_by is None


# Interrupted releases


class Interrupted(BaseException):
    pass


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Let the n-th call of one of the release's writes fail."""
    real, calls = getattr(transition, name), iter(range(1, 100))

    def write(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise Interrupted
        return real(*arguments, **options)

    monkeypatch.setattr(transition, name, write)


@pytest.mark.parametrize(
    ("name", "call", "event"), [("write_registry", 1, "release_abandoned"), ("append", 2, None)]
)
@pytest.mark.parametrize("action", ["promotion", "rollback"])
def test_the_conclusion_of_a_release_is_that_of_its_start(
    challengers: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: int,
    event: str | None,
    action: str,
) -> None:
    challengers.crown("v1", "v2")
    challengers.publish("v3")
    with monkeypatch.context() as patch:
        interrupt(patch, name, call)
        with pytest.raises(Interrupted):
            challengers.promote("v3") if action == "promotion" else challengers.rollback()
    registry, lines, concluded = settled(challengers)
    started = lines[-2]
    assert concluded == lines[-1]
    assert started.event == "release_started"
    assert concluded is not None
    assert concluded.event == (event or action)
    for field in ("version", "generation", "actor", "at", "run_id", "problem"):
        assert getattr(concluded, field) == getattr(started, field)
    assert concluded.details == started.details | {"recovered": True}
    assert registry == read_registry(challengers.store)
    assert read_audit_log(challengers.store).lines == lines
    # Then there is nothing to conclude.
    assert settled(challengers) == (registry, lines, None)


def test_the_very_first_release_may_be_concluded(
    challengers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    challengers.publish("v1")
    with monkeypatch.context() as patch:
        interrupt(patch, "write_registry", 1)
        with pytest.raises(Interrupted):
            challengers.promote("v1")
    assert audit.verify(challengers.store).unfinished_release == "v1"
    concluded = settled(challengers)[2]
    assert concluded is not None
    assert concluded.event == "release_abandoned"
    assert concluded.details["replaces"] is None


def test_a_lost_registry_stops_every_decision(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    challengers.store.registry.unlink()
    error = refused(AuditBroken, settled, challengers)
    assert error["message"] == (
        "The registry has None at generation 0; the audit log of wdbc ends with v1 at generation 1."
    )
    assert error["remedy"] == (
        "One of the two was changed by something else than a release: `bc-pipeline registry "
        "--repair` makes the registry again from the log, or restore both from a backup."
    )
    assert error["fields"] == {"line": 2}


# The audit log


def append(challengers: Any, **options: Any) -> AuditLine:
    options = {"version": "v", "generation": 0, "actor": "a", "at": AT} | options
    return audit.append(challengers.store, options.pop("event", "verdict"), **options)


def test_a_line_has_no_run_and_no_details_unless_they_are_known(challengers: Any) -> None:
    line = append(challengers)
    assert (line.run_id, line.details, line.sequence) == (None, {}, 1)
    assert challengers.store.audit.stat().st_mode & 0o777 == 0o640


def test_a_missing_generation_is_reported_in_full(challengers: Any) -> None:
    for generation in (1, 3):
        append(challengers, event="promotion", generation=generation)
    error = refused(AuditBroken, audit.verify, challengers.store)
    assert error["message"] == "Generation 3 follows generation 1 in the audit log of wdbc."
    assert error["remedy"] == (
        "Compare it with a backup and do not repair it. To go on without it, move the file away: "
        "a new chain starts."
    )
    assert error["fields"] == {"line": 2}


def test_the_report_of_a_log(challengers: Any) -> None:
    empty = audit.AuditReport(
        lines=0,
        unsigned_lines=0,
        distrusted_lines=0,
        tip=None,
        generation=0,
        unfinished_line=False,
        unfinished_release=None,
    )
    assert audit.verify(challengers.store) == empty
    assert empty.head == ""
    challengers.crown("v1")
    line = append(challengers)
    report = audit.verify(challengers.store)
    assert report == dataclasses.replace(empty, lines=3, tip=line.tip, generation=1)
    assert report.head == line.sha256


def test_a_line_is_durable_before_it_is_returned(
    challengers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Any] = []
    monkeypatch.setattr("bc_pipeline.promotion.audit.os.fsync", lambda _: synced.append("file"))
    monkeypatch.setattr("bc_pipeline.promotion.audit.sync_directory", synced.append)
    append(challengers)
    append(challengers)
    assert synced == ["file", challengers.store.audit.parent, "file"]


def test_a_version_is_verified_as_a_whole(challengers: Any, tmp_path: Path) -> None:
    challengers.publish("v1")
    (challengers.store.version("v1") / signed_bundle.MODEL).write_bytes(b"other")
    for act in (challengers.record, challengers.promote):
        with pytest.raises(ArtifactCorrupt):
            act("v1")
    with pytest.raises(ArtifactCorrupt):
        approve(challengers, "v1", True)
