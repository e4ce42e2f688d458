from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import write_registry
from bc_pipeline.artifacts.verdict import Check
from bc_pipeline.errors import HeaderRefused
from bc_pipeline.promotion import audit
from bc_pipeline.serving.model.version_list import ListedVersion, version_page
from bc_pipeline.settings import Settings
from tests.conftest import pointer_to

AT = "2026-11-15T00:00:00Z"


def test_a_version_is_listed_with_its_manifest_and_verdict(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    check = Check("floor", "f1 at least 0.9", passed=False, blocking=True)
    rejected = msgspec.structs.replace(
        releases.passed_verdict("v1"), passed=False, reasons=("f1 at least 0.9",), checks=(check,)
    )
    lineage = msgspec.structs.replace(releases.draft("v1").lineage, live=False)
    manifest = releases.publish("v1", fitted[0], rejected, lineage=lineage)
    page = version_page(settings, 10, None)
    (listed,) = page.versions
    assert (page.problem, page.total, page.next_cursor, page.history_error) == (
        "wdbc",
        1,
        None,
        None,
    )
    assert len(listed.manifest_sha256 or "") == 64
    assert listed == ListedVersion(
        version="v1",
        aliases=(),
        promoted_at=None,
        manifest_sha256=listed.manifest_sha256,
        candidate="logistic",
        title="Logistic regression",
        as_of=AT,
        live=False,
        threshold=0.4,
        metrics=manifest.metrics,
        kind="first",
        passed=False,
        reasons=("f1 at least 0.9",),
        error=None,
    )


def test_versions_are_paged_from_the_newest(releases: Any, fitted: Any, settings: Settings) -> None:
    assert version_page(settings, 10, None).versions == ()
    for name in ("v1", "v2", "v3"):
        releases.publish(name, fitted[0])
    for limit, cursor, names, next_cursor in (
        (3, None, ["v3", "v2", "v1"], None),
        (4, None, ["v3", "v2", "v1"], None),
        (2, None, ["v3", "v2"], "v2"),
        (1, "v3", ["v2"], "v2"),
        (2, "v3", ["v2", "v1"], None),
        (2, "v1", [], None),
    ):
        page = version_page(settings, limit, cursor)
        assert [entry.version for entry in page.versions] == names
        assert (page.total, page.next_cursor) == (3, next_cursor)


@pytest.mark.parametrize("cursor", ["", "v0", "../v1"])
def test_an_unknown_cursor_is_refused(
    releases: Any, fitted: Any, settings: Settings, cursor: str
) -> None:
    releases.publish("v1", fitted[0])
    with pytest.raises(HeaderRefused, match=r"names no version\. Begin again without") as refused:
        version_page(settings, 1, cursor)
    assert refused.value.header == "cursor"


def test_aliases_and_the_last_time_of_promotion(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    for name in ("v1", "v2", "v3", "v4"):
        releases.publish(name, fitted[0])
    # Production by rollback: the audit log knows the time, which is later than the pointer's.
    for event, version, at in (
        ("promotion", "v1", "2026-10-01T00:00:00Z"),
        ("promotion", "v2", "2026-10-02T00:00:00Z"),
        ("verdict", "v4", "2026-10-03T00:00:00Z"),
        ("release_started", "v4", "2026-10-03T00:00:00Z"),
        ("rollback", "v1", "2026-12-01T00:00:00Z"),
    ):
        audit.append(releases.store, event, version=version, generation=1, actor="gate", at=at)
    registry = Registry(
        problem="wdbc",
        generation=3,
        production=pointer_to("v1", "1"),
        previous=pointer_to("v3", "3"),
        staging=pointer_to("v4", "4"),
    )
    write_registry(releases.store, registry)
    page = version_page(settings, 10, None)
    assert page.history_error is None
    assert {entry.version: (entry.aliases, entry.promoted_at) for entry in page.versions} == {
        "v4": (("staging",), None),
        "v3": (("previous",), AT),
        "v2": ((), "2026-10-02T00:00:00Z"),
        "v1": (("production",), "2026-12-01T00:00:00Z"),
    }


def test_a_version_may_have_several_aliases(releases: Any, fitted: Any, settings: Settings) -> None:
    releases.publish("v1", fitted[0])
    pointer = pointer_to("v1", "1")
    registry = Registry(problem="wdbc", generation=2, production=pointer, previous=pointer)
    write_registry(releases.store, registry)
    (listed,) = version_page(settings, 10, None).versions
    assert listed.aliases == ("production", "previous")


def test_a_damaged_version_is_listed_with_its_error(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    for name in ("v1", "v2", "v3"):
        releases.publish(name, fitted[0])
    releases.promote("v2")
    (releases.store.version("v2") / "manifest.sig").unlink()
    (releases.store.version("v3") / "verdict.json").write_text("{}")
    third, second, first = version_page(settings, 10, None).versions
    assert third == ListedVersion(
        version="v3", aliases=(), promoted_at=None, error="artifact-corrupt"
    )
    assert second == ListedVersion(
        version="v2", aliases=("production",), promoted_at=AT, error="signature-invalid"
    )
    assert (first.version, first.error, first.passed) == ("v1", None, True)


def test_a_damaged_audit_log_or_registry_hides_no_version(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")
    releases.store.audit.parent.mkdir(parents=True)
    releases.store.audit.write_text("{}\n")
    page = version_page(settings, 10, None)
    assert page.history_error == "audit-broken"
    assert [(entry.aliases, entry.promoted_at) for entry in page.versions] == [
        (("production",), AT)
    ]
    releases.store.audit.unlink()
    releases.store.registry.write_text("{}")
    page = version_page(settings, 10, None)
    assert page.history_error == "signature-invalid"
    assert [(entry.aliases, entry.promoted_at) for entry in page.versions] == [((), None)]


def test_an_audit_log_that_may_not_be_read_is_an_incomplete_history(
    releases: Any, fitted: Any, settings: Settings
) -> None:
    releases.publish("v1", fitted[0])
    # A folder cannot be read as a file, whoever tries.
    os.makedirs(releases.store.audit)
    assert version_page(settings, 10, None).history_error == "unreadable"
