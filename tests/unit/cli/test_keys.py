"""The `keys` commands: a key is shown once, and never again."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bc_pipeline.access.guard import Guard
from bc_pipeline.access.ring import KeyRing
from bc_pipeline.cli.app import app
from bc_pipeline.settings import Settings


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["keys", *words])
    assert result.exit_code == code, result.output
    return result


def answer(*words: str, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", code=code).stdout)


def accepted(settings: Settings, raw: str) -> bool:
    return KeyRing(settings.service_keys).find(raw.encode()) is not None


def test_a_shell_can_take_the_key_from_standard_output(settings: Settings) -> None:
    result = run("create", "--name", "hospital-a", "--scope", "predict", "--scope", "read")
    (raw,) = result.stdout.splitlines()
    caller = Guard.of(settings).admit([(b"x-api-key", raw.encode())], b"", "read")
    assert caller is not None
    assert (caller.name, caller.scopes) == ("hospital-a", {"predict", "read"})
    assert raw not in result.stderr
    assert caller.key_id in result.stderr


def test_a_key_is_never_shown_again(settings: Settings) -> None:
    made = answer("create", "--name", "a", "--scope", "predict", "--expires-days", "90")
    raw, digest = made["key"], json.loads(settings.service_keys.read_text())["keys"][0]["sha256"]
    assert made["expires_at"] > made["created_at"]
    told = run("list").output + run("list", "--json").output + settings.service_keys.read_text()
    told += run("revoke", "a").output + run("list", "--json").output
    assert raw not in told
    assert raw[13:] not in told
    assert digest not in run("list").output + run("list", "--json").output
    assert answer("list")["keys"][0]["state"] == "revoked"
    assert not accepted(settings, raw)


def test_a_file_gets_the_key_instead(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "a.key"
    result = run("create", "--name", "a", "--scope", "predict", "--out", str(out))
    raw = out.read_text().strip()
    assert accepted(settings, raw)
    assert raw not in result.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


@pytest.mark.parametrize("out", ["there", "missing/a.key"])
def test_no_key_is_made_that_could_not_be_written(
    settings: Settings, tmp_path: Path, out: str
) -> None:
    (tmp_path / "there").write_text("precious")
    words = ("create", "--name", "a", "--scope", "predict", "--out", str(tmp_path / out))
    assert answer(*words, code=3)["error"]["setting"] == "out"
    assert answer("list")["keys"] == []
    assert (tmp_path / "there").read_text() == "precious"


def test_a_refused_key_leaves_no_file(tmp_path: Path) -> None:
    out = tmp_path / "a.key"
    run("create", "--name", "a b", "--scope", "predict", "--out", str(out), code=3)
    run("create", "--name", "a", "--scope", "root", "--out", str(out), code=3)
    assert not out.exists()


def test_both_keys_work_while_they_overlap(settings: Settings) -> None:
    old = answer("create", "--name", "a", "--scope", "predict")
    new = answer("rotate", "a", "--overlap-hours", "1")
    assert new["replaces"] == old["id"]
    assert accepted(settings, old["key"])
    assert accepted(settings, new["key"])
    newest = answer("rotate", "a", "--overlap-hours", "0")
    assert not accepted(settings, new["key"])
    assert accepted(settings, newest["key"])
    states = {entry["id"]: entry["state"] for entry in answer("list")["keys"]}
    assert states == {old["id"]: "live", new["id"]: "expired", newest["id"]: "live"}


def test_the_machine_s_own_key_is_replaced_in_its_file(settings: Settings) -> None:
    run("init")
    before = settings.api_key.read_text().strip()
    result = run("rotate", "local")
    after = settings.api_key.read_text().strip()
    assert after != before
    assert after not in result.output
    assert accepted(settings, after)
    assert accepted(settings, before)
    assert stat.S_IMODE(settings.api_key.stat().st_mode) == 0o600
    # Making what is missing leaves the new one alone.
    run("init")
    assert settings.api_key.read_text().strip() == after


@pytest.mark.parametrize(
    "words",
    [
        ("revoke", "nobody"),
        ("rotate", "nobody"),
        ("create", "--name", "a", "--scope", "everything"),
    ],
)
def test_what_cannot_be_done_says_so(words: tuple[str, ...]) -> None:
    assert answer(*words, code=3)["error"]["code"] == "config"


def test_a_key_of_the_deployment_is_let_in_once_and_replaces_its_forerunner(
    settings: Settings, tmp_path: Path
) -> None:
    raws = ["canary-of-the-first-key-0123456789", "canary-of-the-second-key-012345678"]
    path = tmp_path / "prometheus_key"
    words = ("import", "--name", "prometheus", "--scope", "read", "--key-file", str(path))
    for raw in raws:
        path.write_text(f"{raw}\n")
        for _ in range(2):
            told = answer(*words)
            assert (told["name"], told["scopes"], told["state"]) == ("prometheus", ["read"], "live")
            assert "canary" not in run(*words).output
    assert [accepted(settings, raw) for raw in raws] == [False, True]
    assert len(answer("list")["keys"]) == 2


def test_a_key_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    missing = ("import", "--name", "a", "--scope", "read", "--key-file", str(tmp_path / "none"))
    assert answer(*missing, code=3)["error"]["setting"] == "key-file"
    assert answer("list")["keys"] == []
