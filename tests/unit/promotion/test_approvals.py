"""Approvals: required by policy or run, bound to the manifest's digest and to another person."""

from __future__ import annotations

from typing import Any

import pytest

from bc_pipeline.artifacts import versions
from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.errors import NotReleasable
from bc_pipeline.promotion import decisions


@pytest.fixture
def challenger(challengers: Any) -> str:
    """Digest of the published version ``v1``."""
    challengers.publish("v1")
    store, key = challengers.store, challengers.verify_key
    return versions.open_verified(store, "v1", key).manifest_sha256


def decide(
    challengers: Any, digest: str, actor: str, *, approved: bool = True, **options: Any
) -> None:
    decisions.record_approval(
        challengers.store,
        "v1",
        approved=approved,
        manifest_sha256=digest,
        verify_key=challengers.verify_key,
        actor=actor,
        **options,
    )


def test_what_the_policy_requires_is_refused_without_an_approval(
    challengers: Any, challenger: str
) -> None:
    challengers.record("v1")
    with pytest.raises(NotReleasable, match=f"needs an approval of manifest {challenger}"):
        challengers.promote("v1", requires_approval=True)
    decide(challengers, challenger, "ada")
    result = challengers.promote("v1", requires_approval=True)
    assert result.registry.production.approved_by == "ada"


def test_what_a_run_required_binds_every_later_way_to_promote(
    challengers: Any, challenger: str
) -> None:
    challengers.record("v1", requires_approval=True, requested_by="ada")
    with pytest.raises(NotReleasable, match="needs an approval"):
        challengers.promote("v1")
    decide(challengers, challenger, "otto", reason="read the card")
    assert challengers.promote("v1").changed
    line = next(
        line for line in read_audit_log(challengers.store).lines if line.event == "approval"
    )
    assert (line.actor, line.details["reason"]) == ("otto", "read the card")


def test_a_stricter_run_adds_the_requirement_and_none_takes_it_away(
    challengers: Any, challenger: str
) -> None:
    challengers.record("v1")
    challengers.record("v1", requires_approval=True)
    challengers.record("v1")
    verdicts = [line for line in read_audit_log(challengers.store).lines if line.event == "verdict"]
    assert [line.details.get("requires_approval") for line in verdicts] == [None, True]
    with pytest.raises(NotReleasable, match="needs an approval"):
        challengers.promote("v1")


def test_the_last_decision_is_valid(challengers: Any, challenger: str) -> None:
    challengers.record("v1", requires_approval=True)
    decide(challengers, challenger, "otto")
    decide(challengers, challenger, "nobody, in time", approved=False, reason="approval_expired")
    with pytest.raises(NotReleasable, match="nobody, in time rejected it: approval_expired"):
        challengers.promote("v1")
    decide(challengers, challenger, "otto")
    assert challengers.promote("v1").changed


@pytest.mark.parametrize("actor", ["cli:ada (uid 7)", "cli:ada (uid 7), as root (uid 0)"])
def test_who_requested_a_version_cannot_approve_it_and_may_reject_it(
    challengers: Any, challenger: str, actor: str
) -> None:
    challengers.record("v1", requires_approval=True, requested_by="cli:ada (uid 7)")
    with pytest.raises(NotReleasable, match="somebody else must approve it"):
        decide(challengers, challenger, actor)
    assert not any(line.event == "approval" for line in read_audit_log(challengers.store).lines)
    decide(challengers, challenger, actor, approved=False)


@pytest.mark.parametrize("actor", ["service", "hospital-a (API key 1f2e)"])
def test_a_request_over_the_api_counts_for_the_key_and_for_the_user_of_airflow(
    challengers: Any, challenger: str, actor: str
) -> None:
    requested = "hospital-a (API key 1f2e), as service"
    challengers.record("v1", requires_approval=True, requested_by=requested)
    with pytest.raises(NotReleasable, match="somebody else must approve it"):
        decide(challengers, challenger, actor)
    decide(challengers, challenger, "ada")


def test_one_user_may_do_both_and_the_log_says_why(challengers: Any, challenger: str) -> None:
    challengers.record("v1", requires_approval=True, requested_by="admin")
    decide(challengers, challenger, "admin", one_user="There is one user.")
    line = read_audit_log(challengers.store).lines[-1]
    assert line.details["requester_approved"] == "There is one user."
    assert challengers.promote("v1").changed


def test_the_reason_of_a_release_is_in_the_audit_log(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    challengers.promote("v2", reason="trained by hand")
    challengers.rollback(reason="drift")
    lines = read_audit_log(challengers.store).lines
    reasons = {line.event: line.details.get("reason") for line in lines}
    assert (reasons["promotion"], reasons["rollback"]) == ("trained by hand", "drift")


def test_nobody_decides_about_a_version_that_was_released(
    challengers: Any, challenger: str
) -> None:
    challengers.record("v1")
    decide(challengers, challenger, "ada")
    challengers.promote("v1")
    lines = read_audit_log(challengers.store).lines
    for actor, approved in (("otto", True), ("ada", False)):
        with pytest.raises(NotReleasable, match="v1 was released already"):
            decide(challengers, challenger, actor, approved=approved)
    # A second try of the task that approved and promoted it changes nothing.
    decide(challengers, challenger, "ada")
    assert read_audit_log(challengers.store).lines == lines
