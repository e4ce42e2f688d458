"""The `keys` commands for keys that sign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts import signing
from bc_pipeline.settings import Settings
from tests.unit.commands import run_command
from tests.unit.promotion.conftest import Challengers


@pytest.fixture
def challengers(releases: Any) -> Challengers:
    made = Challengers(releases)
    made.crown("a")
    return made


def answer(*words: str, code: int = 0) -> Any:
    return json.loads(run_command("keys", *words, "--json", code=code).stdout)


def test_a_rotation_and_its_end(challengers: Challengers, settings: Settings) -> None:
    private = settings.signing_key.read_text()
    made = answer("rotate-signing")
    assert signing.key_id(settings.signing_key) == made["key_id"]
    shown = [(key["key_id"], key["signs"]) for key in answer("trusted")["keys"]]
    assert shown == [(made["key_id"], True), (made["replaces"], False)]
    ended = answer("retire", made["replaces"])
    assert ended["signed_again"] == 2
    assert [key["key_id"] for key in answer("trusted")["keys"]] == [made["key_id"]]
    output = run_command("keys", "rotate-signing").output + run_command("keys", "trusted").output
    for secret in (private, settings.signing_key.read_text()):
        assert secret.splitlines()[1] not in output


def test_a_rotation_to_a_folder_tells_the_order(
    challengers: Challengers, settings: Settings, tmp_path: Path
) -> None:
    made = answer("rotate-signing", "--out", str(tmp_path / "new"))
    readers, signer = made["next"][:2]
    assert "verify_key" in readers
    assert "signing_key" in signer


def test_a_compromised_key(challengers: Challengers, settings: Settings, tmp_path: Path) -> None:
    tip = tmp_path / "tip.json"
    tip.write_text(run_command("audit", "tip").stdout)
    challengers.publish("b")
    assert challengers.promote("b", at="2026-11-21T06:00:00Z").changed
    words = ["--since", "2026-11-20", "--reason", "stolen", "--tip", str(tip)]
    former = signing.key_id(settings.signing_key)
    assert answer("distrust", former, *words, code=3)["error"]["code"] == "config"
    answer("rotate-signing")
    done = answer("distrust", former, *words)
    (effect,) = done["problems"]
    assert (effect["champion_before"], effect["champion"]) == ("b", "a")
    assert former not in signing.load_public_keys(settings.verify_key)
    assert challengers.champion == "a"
    audited = json.loads(run_command("audit", "verify", "--json").stdout)
    assert audited["distrusted_lines"] == 2


def test_a_time_that_is_none_is_refused(challengers: Challengers, settings: Settings) -> None:
    former = answer("rotate-signing")["replaces"]
    for since in ("soon", "2999-01-01"):
        answer("distrust", former, "--since", since, "--reason", "r", code=3)
    assert challengers.champion == "a"


def test_secrets_that_cannot_be_written_are_left_to_a_person(
    challengers: Challengers, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = answer("rotate-signing")["replaces"]

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("bc_pipeline.artifacts.key_files.write_atomic", refuse)
    (step,) = answer("retire", former)["next"]
    assert "remove key 2 of the 2 there" in step


def test_a_key_that_is_not_trusted_is_refused_with_those_that_are(
    challengers: Challengers,
) -> None:
    trusted = [key["key_id"] for key in answer("trusted")["keys"]]
    error = answer("retire", "nope", code=3)["error"]
    assert error["message"] == (
        f"There is no trusted key nope; trusted are {trusted[0]}, of which {trusted[0]} signs now."
    )
    assert "bc-pipeline keys trusted" in error["remedy"]
