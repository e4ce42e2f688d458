"""The images as they are written: rules that hold for every one, and the program that builds."""

from __future__ import annotations

import json
import os
import re
import runpy
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest

from bc_pipeline import __version__
from tests.certificates import Authority

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
BUILD = ROOT / "docker" / "build.py"
USERS = {"airflow": "50000:0", "mlflow": "50000:0", "service": "10001:0", "spark": "50000:0"}
SERVERS = ("mlflow", "service")
LABELS = ("title", "description", "licenses", "version", "revision", "base.name")


class Step(NamedTuple):
    """One instruction of a Dockerfile."""

    word: str
    rest: str


def stages(file: Path) -> list[list[Step]]:
    """Every stage's instructions, its FROM first; what stands before the first is left out."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.MULTILINE)
    found: list[list[Step]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            if word == "FROM":
                found.append([])
            if found:
                found[-1].append(Step(word, rest.strip()))
    return found


def rests(steps: list[Step], word: str) -> list[str]:
    return [step.rest for step in steps if step.word == word]


def lock_of(file: Path) -> str:
    (lock,) = re.findall(r"sh /build/install\.sh (\S+)$", file.read_text(), re.MULTILINE)
    assert isinstance(lock, str)
    return lock


every_image = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_there_is_one_for_each_part() -> None:
    assert {file.stem for file in FILES} == set(USERS)


@every_image
def test_hadolint_finds_nothing(file: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "--no-color", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@every_image
def test_every_stage_stands_on_the_base_that_is_given(file: Path) -> None:
    assert re.search(r"^ARG BASE=python:3\.11-slim-bookworm$", file.read_text(), re.MULTILINE)
    names = ["${BASE}"]
    for stage in stages(file):
        base, _, name = stage[0].rest.partition(" AS ")
        assert base in names
        names.append(name)
    assert stages(file)[-1][0].rest == "${BASE}"


@every_image
def test_it_runs_as_a_user_with_a_number(file: Path) -> None:
    assert rests(stages(file)[-1], "USER") == [USERS[file.stem]]


@every_image
def test_a_server_tells_its_health_without_curl(file: Path) -> None:
    checks = rests(stages(file)[-1], "HEALTHCHECK")
    assert bool(checks) == (file.stem in SERVERS)
    assert all("python -I /opt/probe.py http" in check for check in checks)
    assert not re.search(r"\b(curl|wget)\b", file.read_text())


@every_image
def test_it_says_what_it_is(file: Path) -> None:
    labels = re.findall(
        r"org\.opencontainers\.image\.([a-z.]+)=", rests(stages(file)[-1], "LABEL")[0]
    )
    assert sorted(labels) == sorted(LABELS)
    assert f'title="bc-pipeline-{file.stem}"' in file.read_text()


@every_image
def test_it_installs_what_a_lock_names_and_nothing_else(file: Path) -> None:
    for lock in ("install.txt", lock_of(file)):
        assert f"requirements/{lock} " in file.read_text()
        lines = (ROOT / "requirements" / lock).read_text().splitlines()
        pinned = [number for number, line in enumerate(lines) if re.match(r"\S+==", line)]
        assert pinned
        assert all("--hash=sha256:" in lines[number + 1] for number in pinned)
    for stage in stages(file):
        assert not rests(stage, "ADD")
        for command in rests(stage, "RUN"):
            assert "pip install" not in command


def test_every_installation_asks_for_hashes() -> None:
    text = re.sub(r"\\\n\s*", "", (ROOT / "docker" / "install.sh").read_text())
    commands = [line for line in text.splitlines() if "pip install" in line]
    assert len(commands) == 2
    assert all("--require-hashes" in command for command in commands)


@every_image
def test_nothing_of_the_builder_is_written_in_it(file: Path) -> None:
    """Registries, certificates and proxies come in secrets, during one step."""
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE)
    assert not re.search(r"https?://(?!127\.0\.0\.1)|PIP_|UV_|_PROXY|\.crt|\.pem", text)
    mounted = [
        command
        for stage in stages(file)
        for command in rests(stage, "RUN")
        if "type=secret" in command
    ]
    assert len(mounted) == 1
    # Not in the stage that becomes the image.
    assert not any("type=secret" in command for command in rests(stages(file)[-1], "RUN"))


@every_image
def test_what_is_copied_is_there_and_goes_to_the_builder(file: Path) -> None:
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    for stage in stages(file):
        for copied in rests(stage, "COPY"):
            if copied.startswith("--from="):
                continue
            for source in copied.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(
                    Path(source).match(rule) or Path(source).is_relative_to(rule)
                    for rule in allowed
                ), source


def test_only_what_is_named_goes_to_a_builder() -> None:
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    allowed = {line[1:].split("/")[0] for line in lines if line.startswith("!")}
    assert not allowed & {".git", ".bc", ".venv", ".env", "secrets", "tests", "bench", "data"}
    assert allowed <= {path.name for path in ROOT.iterdir()}


# The program that builds -----------------------------------------------------------------


@pytest.fixture
def engines(tmp_path: Path) -> Any:
    """Puts engines on the path that note how they were called; nothing else is on it."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def put(name: str, *, answers: bool = True) -> None:
        program = folder / name
        program.write_text(
            f"#!{sys.executable}\n"
            "import json, os, shutil, sys\n"
            "arguments = sys.argv[1:]\n"
            "if arguments[:1] == ['info']: sys.exit(%d)\n"
            "if 'inspect' in arguments: print(250_000_000); sys.exit()\n"
            "secrets = {}\n"
            "for before, word in zip(arguments, arguments[1:]):\n"
            "    if before == '--secret':\n"
            "        name, path = (part.split('=')[1] for part in word.split(','))\n"
            "        secrets[name] = open(path).read()\n"
            "call = {'arguments': arguments, 'secrets': secrets}\n"
            "open(%r, 'a').write(json.dumps(call) + '\\n')\n"
            % (0 if answers else 1, str(tmp_path / f"{name}.calls"))
        )
        program.chmod(0o755)

    def build(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, BUILD, *arguments],
            env={"PATH": str(folder)} | environment,
            capture_output=True,
            text=True,
        )

    def calls(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (tmp_path / f"{name}.calls").read_text().splitlines()]

    return put, build, calls


def test_podman_builds_where_no_docker_answers(engines: Any) -> None:
    put, build, calls = engines
    put("docker", answers=False)
    put("podman")
    done = build("service", "--tag", "7.1", "--base", "own:1", "--argument=--network=host")
    assert done.returncode == 0, done.stderr
    (call,) = calls("podman")
    line = " ".join(call["arguments"])
    assert "--format docker" in line
    assert f"--build-arg BASE=own:1 --build-arg VERSION={__version__} --build-arg REVISION=" in line
    assert f"--tag bc-pipeline-service:7.1 --network=host {ROOT}" in line
    assert re.search(r"bc-pipeline-service:7\.1 +250 +0$", done.stdout, re.MULTILINE)


def test_docker_builds_where_it_answers(engines: Any) -> None:
    put, build, calls = engines
    put("docker")
    put("podman")
    assert build().returncode == 0
    built = [call["arguments"][call["arguments"].index("--tag") + 1] for call in calls("docker")]
    assert built == [f"bc-pipeline-{name}:dev" for name in sorted(USERS)]
    assert "--format" not in calls("docker")[0]["arguments"]


def test_without_an_engine_it_says_what_to_install(engines: Any) -> None:
    _, build, _ = engines
    done = build("service")
    assert done.returncode == 3
    assert "install podman" in done.stderr


def test_the_registry_of_the_builder_goes_in_as_a_secret(engines: Any, tmp_path: Path) -> None:
    put, build, calls = engines
    put("podman")
    bundle = tmp_path / "authority.crt"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    secret = "https://someone:it's@registry.invalid/simple"
    build("service", PIP_INDEX_URL=secret, SSL_CERT_FILE=str(bundle), PIP_CERT="/nowhere.pem")
    (call,) = calls("podman")
    assert "registry.invalid" not in " ".join(call["arguments"])
    assert call["secrets"]["ca"] == bundle.read_text()
    script = 'eval "$1"; printf %s "$PIP_INDEX_URL"'
    shell = ["sh", "-c", script, "sh", call["secrets"]["registry"]]
    assert subprocess.run(shell, capture_output=True, text=True).stdout == secret


def test_a_build_that_fails_ends_with_its_code(engines: Any, tmp_path: Path) -> None:
    put, build, _ = engines
    put("podman")
    (tmp_path / "bin" / "podman").write_text("#!/bin/sh\nexit 125\n")
    assert build("service").returncode == 125


def test_the_default_base_is_that_of_the_files() -> None:
    assert f"ARG BASE={runpy.run_path(str(BUILD))['BASE']}\n" in FILES[0].read_text()


# Health checks of containers ----------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """Answers ``/livez`` with 200, and every other path with 503."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep still."""


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, int, Path]]:
    """Its scheme and port, and its certificate, which no loopback address is in."""
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    Authority().issue(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as found:
        if request.param == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            found.socket = context.wrap_socket(found.socket, server_side=True)
        thread = Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        yield request.param, found.server_port, certificate
        found.shutdown()
        thread.join()


def probe(url: str) -> int:
    program = [sys.executable, "-I", ROOT / "docker" / "probe.py", url]
    proxy = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    return subprocess.run(program, env=proxy, stdout=subprocess.DEVNULL).returncode


def test_the_probe_tells_what_the_server_says(server: tuple[str, int, Path]) -> None:
    scheme, port, _ = server
    assert probe(f"{scheme}://127.0.0.1:{port}/livez") == 0
    assert probe(f"{scheme}://127.0.0.1:{port}/readyz") == 1


def test_the_probe_says_that_nobody_listens() -> None:
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        assert probe(f"http://127.0.0.1:{occupied.getsockname()[1]}/livez") == 1


def test_the_health_check_of_the_service_follows_its_settings(
    server: tuple[str, int, Path],
) -> None:
    scheme, port, certificate = server
    (check,) = rests(stages(ROOT / "docker" / "service.Dockerfile")[-1], "HEALTHCHECK")
    command = json.loads(check.partition(" CMD ")[2])
    command[-1] = command[-1].replace("/opt/probe.py", str(ROOT / "docker" / "probe.py"))
    environment = {"PATH": str(Path(sys.executable).parent) + ":/bin", "BC_SERVICE_PORT": str(port)}
    if scheme == "https":
        environment["BC_TLS_CERT_FILE"] = str(certificate)
    assert subprocess.run(command, env=environment).returncode == 0


# Contents of the images -------------------------------------------------------------


def test_a_bill_of_materials_names_every_pin_with_its_hashes() -> None:
    make = ["make", "--silent", "sbom", "IMAGES=service"]
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    subprocess.run(make, cwd=ROOT, env=environment, check=True)
    bill = json.loads((ROOT / "build" / "sbom" / "bc-pipeline-service.cdx.json").read_text())
    lock = (ROOT / "requirements" / "serving.txt").read_text()
    pins = re.findall(r"^([^\s=\[]+)(?:\[.*?\])?==(\S+)", lock, re.MULTILINE)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "bc-pipeline"
    assert {(part["name"], part["version"]) for part in bill["components"]} == set(pins)
    assert all(part["externalReferences"][0]["hashes"] for part in bill["components"])
