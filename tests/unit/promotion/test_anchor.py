from __future__ import annotations

import shutil
from typing import Any

import pytest

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.errors import ConfigError, NotReleasable, VersionNotFound
from bc_pipeline.promotion import audit
from bc_pipeline.promotion.anchor import read_anchor, set_anchor


def make(challengers: Any, version: str, reason: str = "why") -> Any:
    with challengers.clock_at("2026-11-16T06:00:00Z"):
        return set_anchor(challengers.store, version, actor="ada", reason=reason)


def test_there_is_no_anchor_before_the_first_champion(challengers: Any) -> None:
    challengers.publish("v1")
    assert read_anchor(challengers.store) is None


def test_the_first_champion_is_the_anchor_and_stays_it(challengers: Any) -> None:
    challengers.crown("v1", "v2", "v3")
    anchor = read_anchor(challengers.store)
    assert (anchor.version, anchor.actor, anchor.reason) == ("v1", "test", None)
    assert anchor.open(challengers.store).manifest.version == "v1"


def test_another_anchor_is_set_by_a_line_in_the_audit_log(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    made, changed = make(challengers, "v2", " clinic B joined ")
    assert changed
    assert read_anchor(challengers.store) == made
    assert (made.version, made.actor, made.reason) == ("v2", "ada", "clinic B joined")
    line = read_audit_log(challengers.store).lines[-1]
    assert (line.event, line.generation, line.actor) == ("anchor", 2, "ada")
    assert line.details["replaces"] == "v1"
    audit.verify(challengers.store)
    challengers.crown("v3")
    assert read_anchor(challengers.store) == made


def test_setting_the_same_anchor_again_changes_nothing(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    made, _ = make(challengers, "v2")
    before = challengers.store.audit.read_bytes()
    assert make(challengers, "v2", "again") == (made, False)
    assert challengers.store.audit.read_bytes() == before


def test_a_version_that_was_never_in_production_is_no_anchor(challengers: Any) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    before = challengers.store.audit.read_bytes()
    with pytest.raises(NotReleasable, match="never in production"):
        make(challengers, "v2")
    with pytest.raises(VersionNotFound):
        make(challengers, "v9")
    with pytest.raises(ConfigError, match="reason"):
        make(challengers, "v1", " ")
    assert challengers.store.audit.read_bytes() == before


def test_an_anchor_whose_files_are_gone_is_named(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    shutil.rmtree(challengers.store.version("v1"))
    anchor = read_anchor(challengers.store)
    with pytest.raises(VersionNotFound, match="v1"):
        anchor.open(challengers.store)
