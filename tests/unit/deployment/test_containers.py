"""Which engine is taken, what it is asked, and when containers count as well.

Small programs stand in for docker and podman: they note what they are asked, and answer what
a file says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from bc_pipeline.deployment import containers
from bc_pipeline.deployment.container_secrets import make_container_secrets
from bc_pipeline.errors import ConfigError, StackError
from tests.unit.commands import run_command

PROGRAM = """\
#!/bin/sh
echo "${0##*/} $*" >> "$BC_TEST_ASKED"
case "${0##*/} $*" in
%s
esac
exit 0
"""


@dataclass
class Machine:
    """What is on the PATH, and what was asked of it."""

    folder: Path
    recorded: Path

    def install(self, name: str, *cases: str) -> None:
        path = self.folder / name
        path.write_text(PROGRAM % "\n".join(f"  {case} ;;" for case in cases))
        path.chmod(0o755)

    def calls(self, word: str = "") -> list[str]:
        return [line for line in self.recorded.read_text().splitlines() if word in line]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    folder, recorded = tmp_path / "bin", tmp_path / "asked"
    folder.mkdir()
    recorded.touch()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("BC_TEST_ASKED", str(recorded))
    # No engine of the machine that runs the tests: not beside its Python, nor before them.
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    found = Machine(folder, recorded)
    for name in ("docker", "podman", "podman-compose"):
        found.install(name, f"'{name}'*) exit 127")
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    make_container_secrets(folder / "secrets")
    monkeypatch.setenv("BC_PROJECT_DIR", str(folder))
    return folder


def docker(machine: Machine, *cases: str) -> None:
    machine.install("docker", *cases)


def podman(machine: Machine, listed: list[dict[str, Any]], *cases: str) -> None:
    (machine.folder / "listed.json").write_text(json.dumps(listed))
    machine.install(
        "podman", *cases, f"'podman ps '*) cat {machine.folder / 'listed.json'}; exit 0"
    )
    machine.install("podman-compose")


def container(name: str, state: str = "running", code: int = 0) -> dict[str, Any]:
    return {"Names": [name], "State": state, "ExitCode": code}


def run(*words: str, code: int = 0) -> Result:
    return run_command("compose", *words, code=code)


def test_docker_is_asked_to_wait_and_then_runs_the_first_cycle(
    machine: Machine, project: Path
) -> None:
    docker(machine)
    run("up", "--profile", "observability", "--profile", "spark", "--seconds", "30")
    file = f"docker compose --file {project}/docker-compose.yaml"
    assert machine.calls(" --file ") == [
        f"{file} --profile observability --profile spark up --detach --wait --wait-timeout 30",
        f"{file} --profile debug run --rm --no-deps -T airflow-cli bc-pipeline cluster first-cycle",
    ]


@pytest.mark.parametrize("profile", ["observabilty", "debug"])
def test_a_profile_that_is_none_or_only_for_commands_is_refused(
    machine: Machine, project: Path, profile: str
) -> None:
    docker(machine)
    result = run("up", "--profile", "spark", "--profile", profile, code=3)
    assert profile in result.output
    assert "observability, spark, flower" in result.output
    assert not machine.calls(" up ")


def test_machines_get_one_answer(machine: Machine, project: Path) -> None:
    docker(machine)
    assert json.loads(run("up", "--json", "--no-first-cycle").stdout) == {"profiles": []}
    run("up", "--json")
    assert machine.calls("cluster first-cycle --json")
    assert json.loads(run("down", "--json").stdout) == {"removed": True, "volumes": "retained"}
    (project / "secrets" / "fernet_key").unlink()
    refused = json.loads(run("up", "--json", code=3).stdout)
    assert "fernet_key" in refused["error"]["message"]


def test_the_first_cycle_can_be_left_out_and_its_end_is_ours(
    machine: Machine, project: Path
) -> None:
    docker(machine, "*first-cycle) exit 10")
    run("up", "--no-first-cycle")
    assert not machine.calls("first-cycle")
    run("up", code=10)


def test_containers_of_every_profile_are_removed(machine: Machine, project: Path) -> None:
    docker(machine)
    run("down")
    (call,) = machine.calls(" down")
    for profile in containers.PROFILES:
        assert f"--profile {profile} " in call
    assert "volume" not in call


def test_a_docker_whose_engine_is_away_is_passed_by(machine: Machine, project: Path) -> None:
    docker(machine, "'docker info'*) exit 1")
    podman(machine, [container("service")])
    run("up", "--no-first-cycle")
    assert machine.calls("podman-compose --file")
    assert not machine.calls("--wait")


def test_without_an_engine_it_is_told_what_to_install(machine: Machine, project: Path) -> None:
    docker(machine, "'docker compose version') exit 1")
    (machine.folder / "podman").unlink()
    (machine.folder / "podman-compose").unlink()
    machine.folder.joinpath("empty").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(machine.folder))
        patch.setattr("shutil.which", lambda name: None)
        with pytest.raises(ConfigError, match="Neither 'docker compose' nor 'podman-compose'"):
            containers.find_engine()


def test_nothing_is_started_without_secrets(machine: Machine, project: Path) -> None:
    docker(machine)
    (project / "secrets" / "fernet_key").unlink()
    result = run("up", code=3)
    assert "fernet_key" in result.output
    assert "make secrets" in result.output
    assert not machine.calls("up")


def test_an_engine_that_fails_is_an_error(machine: Machine, project: Path) -> None:
    docker(machine, "*' up '*) exit 5")
    result = run("up", code=7)
    assert "ended with 5" in result.output
    assert not machine.calls("first-cycle")


def test_podman_is_waited_for_by_its_health_checks(
    machine: Machine, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "_PAUSE_SECONDS", 0.05)
    listed = [container("service"), container("init", "exited"), container("plain")]
    well = machine.folder / "well"
    podman(
        machine,
        listed,
        # The first look finds it not well yet.
        f"'podman healthcheck run service') test -e {well} || {{ touch {well}; exit 1; }}",
        "'podman healthcheck run plain') exit 125",
    )
    run("up", "--no-first-cycle")
    assert len(machine.calls("healthcheck run service")) == 2
    assert not machine.calls("healthcheck run init")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (container("worker"), r"worker \(not healthy yet\)"),
        (container("init", "exited", 3), r"init \(exited, exit code 3\)"),
        (container("worker", "created"), r"worker \(created, exit code 0\)"),
    ],
)
def test_what_does_not_become_well_is_named(
    machine: Machine,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    listed: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(containers, "_PAUSE_SECONDS", 0.05)
    podman(machine, [listed], "'podman healthcheck'*) exit 1")
    with pytest.raises(StackError, match=message):
        containers.start(project, (), 0.2, print)


def test_podman_compose_that_leaves_containers_behind_is_not_believed(
    machine: Machine, project: Path
) -> None:
    podman(machine, [container("redis")])
    with pytest.raises(StackError, match="still there: redis"):
        containers.stop(project)
    podman(machine, [])
    containers.stop(project)
