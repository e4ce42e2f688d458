"""A release that dies at any step, and releases that collide, in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts.files import encode_document

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).with_name("processes.py")
KILLED = -9
CONFLICT = 3


def _run(mode: str, room: Path, plan: dict[str, Any]) -> dict[str, Any]:
    room.mkdir()
    (room / "plan.json").write_text(json.dumps(plan | {"room": str(room)}))
    done = subprocess.run(
        [sys.executable, PROGRAM, mode, room / "plan.json", room / "report.json"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((room / "report.json").read_text())


def _crash(challengers: Any, tmp_path: Path, release: str, draft: Any, **plan: Any) -> Any:
    (tmp_path / "draft.json").write_bytes(encode_document(draft))
    common = {"home": str(challengers.store.home), "draft": str(tmp_path / "draft.json")}
    steps = _run("crash", tmp_path / "room", common | {"release": release} | plan)["steps"]
    assert [step["code"] for step in steps] == [KILLED] * (len(steps) - 1) + [0]
    return steps


def test_a_promotion_that_dies_at_any_step(challengers: Any, tmp_path: Path) -> None:
    challengers.crown("v1")
    draft, _ = challengers.prepare("v2")
    steps = _crash(challengers, tmp_path, "promotion", draft)
    # Sealing, publishing, the verdict and three writes of the release: none is missing.
    assert len(steps) > 60
    for step in steps:
        assert step["killed"] in (["v1", 1], ["v2", 2])
        assert step["state"] == ["v2", 2]
        assert step["outcomes"] == [["promotion", 1, "v1"], ["promotion", 2, "v2"]]
        assert step["events"].count("verdict") == 1
    order = [step["killed"] for step in steps]
    assert order == sorted(order), "the champion moves once"
    assert order[0] == ["v1", 1]
    assert order[-2] == ["v2", 2]
    assert any("release_abandoned" in step["events"] for step in steps)


def test_the_very_first_promotion_that_dies_at_any_step(challengers: Any, tmp_path: Path) -> None:
    """Registry, audit log and their folders do not exist yet."""
    steps = _crash(challengers, tmp_path, "promotion", challengers.prepare("v1")[0])
    for step in steps:
        assert step["killed"] in (["", 0], ["v1", 1])
        assert step["state"] == ["v1", 1]
        assert step["outcomes"] == [["promotion", 1, "v1"]]


def test_a_rollback_that_dies_at_any_step(challengers: Any, tmp_path: Path) -> None:
    challengers.crown("v1", "v2")
    draft, _ = challengers.prepare("v3")
    steps = _crash(challengers, tmp_path, "rollback", draft, version="v1")
    assert len(steps) > 20
    for step in steps:
        assert step["killed"] in (["v2", 2], ["v1", 3])
        assert step["state"] == ["v1", 3]
        assert step["outcomes"][2:] == [["rollback", 3, "v1"]]


def test_of_two_promotions_at_once_one_wins(challengers: Any, tmp_path: Path) -> None:
    challengers.crown("v1")
    challengers.publish("v2")
    challengers.publish("v3")
    plan = {"home": str(challengers.store.home), "rounds": 20, "versions": ["v2", "v3"]}
    for played in _run("race", tmp_path / "room", plan)["rounds"]:
        assert sorted(played["codes"]) == [0, CONFLICT]
        winner = ["v2", "v3"][played["codes"].index(0)]
        assert (played["champion"], played["generation"]) == (winner, 2)
        assert played["outcomes"] == [["promotion", 1, "v1"], ["promotion", 2, winner]]


def test_a_version_that_is_promoted_twice_at_once_is_promoted_once(
    challengers: Any, tmp_path: Path
) -> None:
    challengers.publish("v1")
    plan = {"home": str(challengers.store.home), "rounds": 10, "versions": ["v1", "v1"]}
    for played in _run("race", tmp_path / "room", plan)["rounds"]:
        assert played["codes"] == [0, 0]
        assert played["outcomes"] == [["promotion", 1, "v1"]]


def test_lines_of_several_processes_form_one_chain(challengers: Any, tmp_path: Path) -> None:
    plan = {"home": str(challengers.store.home), "lines": 15}
    report = _run("append", tmp_path / "room", plan)
    assert report["codes"] == [0, 0, 0]
    for name in "abc":
        own = [version for version in report["versions"] if version[0] == name]
        assert own == [f"{name}{number}" for number in range(15)]
