from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from bc_pipeline.errors import ConfigError
from bc_pipeline.server import __main__ as entry
from bc_pipeline.server.listener import bind
from bc_pipeline.settings import Settings
from tests.waiting import PATIENCE

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_missing_key_store_is_named_once_and_exits_with_2(workers: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bc_pipeline.server", "--port", "0", "--workers", workers],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert done.stderr.count("BC_SERVICE_KEYS_FILE") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_invalid_settings_are_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bc_pipeline.server"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"BC_RELOAD_SECONDS": "never"},
    )
    assert done.returncode == 2
    assert "BC_RELOAD_SECONDS" in done.stderr


def test_an_unusable_certificate_is_named(settings: Settings, api_key: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bc_pipeline.server", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ
        | {"BC_TLS_CERT_FILE": str(tmp_path / "no"), "BC_TLS_KEY_FILE": str(tmp_path / "no")},
    )
    assert done.returncode == 2
    assert "BC_TLS_CERT_FILE" in done.stderr


@pytest.mark.parametrize("unfit", [".restore", "store.json"])
def test_a_half_restored_volume_or_one_of_a_later_release_is_not_served(
    settings: Settings, api_key: str, unfit: str
) -> None:
    path = settings.home / unfit
    if unfit == ".restore":
        path.mkdir()
    else:
        path.write_text('{"format": 99}')
    done = subprocess.run(
        [sys.executable, "-m", "bc_pipeline.server", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert str(settings.home) in done.stderr
    assert not (settings.home / "records").exists()


def test_the_launcher_imports_no_framework_or_model_library() -> None:
    heavy = ("fastapi", "numpy", "onnxruntime", "structlog", "uvicorn", "sqlalchemy")
    program = (
        "import sys; import bc_pipeline.server.__main__; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--nothing"]])
def test_invalid_arguments_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        entry.main(arguments)
    assert ended.value.code == 2


def test_a_port_in_use_names_the_setting() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        with pytest.raises(ConfigError) as refused:
            bind("127.0.0.1", first.getsockname()[1])
    assert refused.value.setting == "BC_SERVICE_PORT"


def test_an_invalid_address_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="BC_HOST"):
        bind("256.256.256.256", 0)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("folder", [False, True])
def test_it_serves_any_application_and_imports_nothing_of_ours_for_it(
    workers: str, folder: bool, settings: Settings, tmp_path: Path
) -> None:
    application = "tests.unit.server.plain_application:create"
    arguments = ["--application", application, "--port", "0", "--workers", workers, "--until-eof"]
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "bc_pipeline.server", *arguments),
            *(["--folder", str(tmp_path)] if folder else []),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = json.loads(process.stdout.readline())["port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
                modules = json.loads(answer.read())
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    rooms = {name.split(".")[1] for name in modules if "." in name}
    assert "server" in rooms
    assert rooms <= {
        "background_loop",
        "encryption",
        "errors",
        "log_stream",
        "managed_process",
        "server",
        "settings",
    }


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "eof"])
def test_it_announces_its_port_and_exits_with_0(
    end: str, settings: Settings, api_key: str, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bc_pipeline.server", "--port", "0", "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = json.loads(process.stdout.readline())
        assert (line["event"], line["host"], line["pid"]) == (
            "listening",
            "127.0.0.1",
            process.pid,
        )
        # With an idle connection open.
        with socket.create_connection(("127.0.0.1", line["port"]), timeout=PATIENCE):
            with urllib.request.urlopen(
                f"http://127.0.0.1:{line['port']}/", timeout=PATIENCE
            ) as root:
                assert root.status == 200
            if end == "eof":
                process.stdin.close()
            else:
                process.send_signal(getattr(signal, end))
            assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()
    lines = [json.loads(entry) for entry in (tmp_path / "log").read_text().splitlines()]
    assert {"event", "level", "timestamp"} <= set(lines[0])
    assert any(entry["event"] == "request" and entry["path"] == "/" for entry in lines)
