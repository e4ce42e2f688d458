"""The `keys` commands: a key is shown once, and never again."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.main import get_command

from bc_pipeline.auth import key_store
from bc_pipeline.auth.authenticator import Authenticator
from bc_pipeline.auth.key_cache import KeyCache
from bc_pipeline.cli.app import app
from bc_pipeline.cli.output import OutputFailed
from bc_pipeline.errors import ConfigError
from bc_pipeline.settings import Settings
from tests.unit.commands import run_command


def run(*words: str, code: int = 0) -> Result:
    return run_command("keys", *words, code=code)


def answer(*words: str, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", code=code).stdout)


def accepted(settings: Settings, raw: str) -> bool:
    return KeyCache(settings.service_keys).caller(raw.encode()) is not None


def test_standard_output_has_the_key_alone(settings: Settings) -> None:
    result = run("create", "--name", "hospital-a", "--scope", "predict", "--scope", "read")
    (raw,) = result.stdout.splitlines()
    headers = [(b"x-api-key", raw.encode())]
    caller = asyncio.run(Authenticator.from_settings(settings).authorize(headers, b"", "read"))
    assert (caller.name, caller.scopes) == ("hospital-a", {"predict", "read"})
    assert raw not in result.stderr
    assert caller.key_id in result.stderr


def test_a_key_is_never_shown_again(settings: Settings) -> None:
    made = answer("create", "--name", "a", "--scope", "predict", "--expires-days", "90")
    raw, digest = made["key"], json.loads(settings.service_keys.read_text())["keys"][0]["sha256"]
    assert made["expires_at"] > made["created_at"]
    reported = run("list").output + run("list", "--json").output + settings.service_keys.read_text()
    reported += run("revoke", "a").output + run("list", "--json").output
    assert raw not in reported
    assert raw[13:] not in reported
    assert digest not in run("list").output + run("list", "--json").output
    assert answer("list")["keys"][0]["state"] == "revoked"
    assert not accepted(settings, raw)


def test_the_key_may_be_written_to_a_file(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "a.key"
    result = run("create", "--name", "a", "--scope", "predict", "--out", str(out))
    raw = out.read_text().strip()
    assert accepted(settings, raw)
    assert raw not in result.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


@pytest.mark.parametrize("out", ["there", "missing/a.key"])
def test_no_key_is_made_where_its_file_cannot_be_created(
    settings: Settings, tmp_path: Path, out: str
) -> None:
    (tmp_path / "there").write_text("precious")
    words = ("create", "--name", "a", "--scope", "predict", "--out", str(tmp_path / out))
    assert answer(*words, code=3)["error"]["fields"]["setting"] == "out"
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


def test_the_service_s_own_key_is_replaced_in_its_file(settings: Settings) -> None:
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
def test_invalid_requests_are_refused(words: tuple[str, ...]) -> None:
    assert answer(*words, code=3)["error"]["code"] == "config"


def test_an_imported_key_is_accepted_once_and_replaces_the_former(
    settings: Settings, tmp_path: Path
) -> None:
    raws = ["canary-of-the-first-key-0123456789", "canary-of-the-second-key-012345678"]
    path = tmp_path / "prometheus_key"
    words = ("import", "--name", "prometheus", "--scope", "read", "--key-file", str(path))
    for raw in raws:
        path.write_text(f"{raw}\n")
        for _ in range(2):
            reported = answer(*words)
            assert (reported["name"], reported["scopes"], reported["state"]) == (
                "prometheus",
                ["read"],
                "live",
            )
            assert "canary" not in run(*words).output
    assert [accepted(settings, raw) for raw in raws] == [False, True]
    assert len(answer("list")["keys"]) == 2


def test_a_key_that_cannot_be_read_is_refused(tmp_path: Path, settings: Settings) -> None:
    missing = ("import", "--name", "a", "--scope", "read", "--key-file", str(tmp_path / "none"))
    assert answer(*missing, code=3)["error"]["fields"]["setting"] == "key-file"
    settings.home.mkdir(exist_ok=True)
    assert answer("list")["keys"] == []


@pytest.mark.parametrize("out", [["--out", "/dev/full"], []])
@pytest.mark.parametrize("form", [["--json"], []])
def test_no_key_is_valid_that_could_not_be_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, out: list[str], form: list[str]
) -> None:
    """Standard output, too, may be a full disk."""
    run("create", "--name", "a", "--scope", "predict")
    before = settings.service_keys.read_bytes()
    # Closing it writes again what could not be written.
    with suppress(OSError), Path("/dev/full").open("w") as full:
        for words in (["create", "--name", "b", "--scope", "predict"], ["rotate", "a"]):
            with monkeypatch.context() as patched:
                if not out:
                    patched.setattr(sys, "stdout", full)
                with pytest.raises((ConfigError, OutputFailed)):
                    get_command(app).main(
                        ["keys", *words, *out, *form], prog_name="x", standalone_mode=False
                    )
    assert settings.service_keys.read_bytes() == before


@pytest.mark.parametrize("own", [True, False])
def test_a_key_that_could_not_be_stored_leaves_files_as_they_were(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    run("init")
    out = tmp_path / "a.key"
    before = settings.api_key.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(key_store, "write_document", fail)
    run("rotate", "local", *([] if own else ["--out", str(out)]), code=3)
    assert not out.exists()
    assert settings.api_key.read_bytes() == before
    assert accepted(settings, before.decode().strip())


def test_a_key_that_is_written_to_standard_output_is_there_alone(settings: Settings) -> None:
    with tempfile.TemporaryFile("w+") as stream:
        program = Path(sys.executable).with_name("bc-pipeline")
        words = ["keys", "create", "--name", "a", "--scope", "predict", "--out", "/dev/stdout"]
        subprocess.run([program, *words], stdout=stream, check=True)
        stream.seek(0)
        assert accepted(settings, stream.read().strip())
