"""A compromised signing key: the real service falls back, and no request fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bc_pipeline.artifacts import signing
from bc_pipeline.clock import format_time, parse_time
from bc_pipeline.promotion import audit
from bc_pipeline.settings import Settings
from tests.e2e.service_process import Load, running_service
from tests.unit.commands import run_command
from tests.waiting import wait_until

SINCE = "2026-11-20T00:00:00Z"


def test_the_service_falls_back_to_the_last_trusted_version(
    settings: Settings, tmp_path: Path, releases: Any, fitted: Any, reference: Any
) -> None:
    store = releases.store
    for version, model, at in (
        ("a", fitted[0], "2026-11-15T06:00:00Z"),
        ("b", fitted[1], "2026-11-21T06:00:00Z"),
    ):
        _release(releases, version, model, at)
    with (
        running_service(settings, tmp_path, workers=2) as service,
        Load(service, reference[0].tolist()) as load,
    ):
        wait_until(lambda: service.version() == "b")
        assert run_command("keys", "rotate-signing")
        former = list(signing.load_public_keys(settings.verify_key))[1]
        assert service.ask("GET", "/health")[1]["audit"]["distrusted_keys"] == []
        run_command("keys", "distrust", former, "--since", SINCE, "--reason", "stolen")

        def live() -> list[Any]:
            return [event for event in service.events() if event["event"] == "model_live"]

        wait_until(lambda: len(live()) == 4)
        assert [event["version"] for event in live()[2:]] == ["a", "a"]
        wait_until(lambda: service.ask("GET", "/health")[1]["audit"]["distrusted_keys"] == [former])
        load.stop()
        health = service.ask("GET", "/health")[1]
    assert load.failures == []
    assert {answer.status for answer in load.answers} == {200}
    assert load.answers[-1].content["model_version"] == "a"
    assert (health["model_version"], health["audit"]["fault"]) == ("a", None)
    assert health["refused"]["count"] == 0
    assert audit.verify(store).distrusted_lines > 0


def _release(releases: Any, version: str, model: Any, at: str) -> None:
    """Publish and promote a version with the audit lines of a promotion at a time."""
    from bc_pipeline.artifacts.registry import read_registry
    from bc_pipeline.artifacts.versions import open_stored
    from bc_pipeline.promotion.eligibility import require_verdict
    from bc_pipeline.promotion.transition import make_pointer
    from bc_pipeline.promotion.transition import release as move

    releases.publish(version, model)
    store = releases.store
    files = open_stored(store, version, store.verify_key)
    at = format_time(parse_time(at))
    pointer = make_pointer(files, require_verdict(files), at, None)
    move(store, read_registry(store), "promotion", pointer, "tests", None)
