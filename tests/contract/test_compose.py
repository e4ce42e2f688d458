"""The compose file: every name in it exists, and nothing in it is more open than it must be."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse
from pydantic import SecretStr

from bc_pipeline.deployment.container_secrets import NAMES
from bc_pipeline.deployment.containers import COMMANDS_SERVICE, PROFILES, PROJECT
from bc_pipeline.run_note import SERVICE_USER
from bc_pipeline.settings import Settings
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yaml"
TEXT = FILE.read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKER = ROOT / "docker"
PAGE = (ROOT / "docs" / "deployment.md").read_text()
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "bc-pipeline.json").read_text())
ONE_SHOTS = {"volume-init", "postgres-init", "airflow-init", "prometheus-init", "airflow-cli"}
SECRET_PATH = re.compile(r"/run/secrets/([a-z_]+)")
CONDITIONS = {"service_healthy", "service_completed_successfully"}
each_service = pytest.mark.parametrize("name", SERVICES)


def environment(name: str) -> dict[str, str]:
    return SERVICES[name].get("environment") or {}


def mounts(name: str) -> dict[str, tuple[str, bool]]:
    """Source, and whether it can be written, by the place where it stands in the container."""
    found = {}
    for mount in SERVICES[name].get("volumes", []):
        # A default within a place has a colon of its own.
        source, target, *mode = re.sub(r"\$\{[A-Z_]+:-(\w+)\}", r"\1", mount).split(":")
        found[target] = (source, mode != ["ro"])
    return found


def test_the_file_fits_the_schema_of_compose() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", str(FILE)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout


# References ---------------------------------------------------------------------------


@each_service
def test_what_a_service_waits_for_exists_and_can_become_so(name: str) -> None:
    profiles = set(SERVICES[name].get("profiles", []))
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] in CONDITIONS
        assert (how["condition"] == "service_healthy") == (other not in ONE_SHOTS)
        # Else it would not be started with it.
        assert set(SERVICES[other].get("profiles", [])) <= profiles


@pytest.mark.parametrize("kind", ["networks", "secrets"])
def test_networks_and_secrets_are_declared_and_used(kind: str) -> None:
    used = {entry for service in SERVICES.values() for entry in service.get(kind, [])}
    assert used == set(COMPOSE[kind])


def test_volumes_are_declared_and_used_and_mounted_folders_exist() -> None:
    sources = {source for name in SERVICES for source, _ in mounts(name).values()}
    assert {source for source in sources if not source.startswith(".")} == set(COMPOSE["volumes"])
    for source in sources:
        # A file that is replaced leaves a mount of it behind, so folders are mounted.
        assert not source.startswith(".") or (ROOT / source).is_dir()


@each_service
def test_nothing_is_mounted_twice_in_one_place(name: str) -> None:
    assert len(mounts(name)) == len(SERVICES[name].get("volumes", []))


def test_names_are_those_that_the_commands_use() -> None:
    assert COMPOSE["name"] == PROJECT
    found = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    assert found == set(PROFILES)
    assert SERVICES[COMMANDS_SERVICE]["profiles"] == ["debug"]
    assert set(COMPOSE["secrets"]) == NAMES
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}


def test_services_have_the_names_of_airflows_own_file_and_their_profiles() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    always = {name for name, chosen in profiles.items() if not chosen}
    assert always == {
        *("postgres", "redis", "volume-init", "postgres-init", "mlflow", "service", "airflow-init"),
        *("airflow-apiserver", "airflow-scheduler", "airflow-dag-processor"),
        *("airflow-triggerer", "airflow-worker"),
    }
    assert {name: chosen for name, chosen in profiles.items() if chosen} == {
        "prometheus-init": ["observability"],
        "prometheus": ["observability"],
        "grafana": ["observability"],
        "spark-master": ["spark"],
        "spark-worker": ["spark"],
        "airflow-cli": ["debug"],
        "flower": ["flower"],
    }


@each_service
def test_our_images_are_those_that_are_built(name: str) -> None:
    image = SERVICES[name]["image"]
    assert ":" in image
    assert not image.endswith(":latest")
    ours = re.fullmatch(r"bc-pipeline-([a-z]+):\$\{IMAGE_TAG:-dev\}", image)
    assert ours is None or (DOCKER / f"{ours[1]}.Dockerfile").is_file()
    assert ours is not None or "/" in image or image.partition(":")[0] in {"postgres", "redis"}


# Settings -----------------------------------------------------------------------------


def airflow_options() -> dict[str, bool]:
    """Every option of Airflow and of its providers here, and whether it may come from a command."""
    spec = importlib.util.find_spec("airflow")
    assert spec is not None
    (home,) = map(Path, spec.submodule_search_locations or ())
    sections = [yaml.safe_load((home / "config_templates" / "config.yml").read_text())]
    for path in home.glob("providers/*/get_provider_info.py"):
        spec = importlib.util.spec_from_file_location(path.parent.name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sections.append(module.get_provider_info().get("config", {}))
    return {
        f"AIRFLOW__{section}__{option}".upper(): bool(about.get("sensitive"))
        for part in sections
        for section, content in part.items()
        for option, about in content["options"].items()
    }


def test_every_setting_of_airflow_exists_and_commands_stand_where_they_are_read() -> None:
    # The scheduler reads it, though Airflow declares it nowhere.
    undeclared = {"AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": False}
    options = airflow_options() | undeclared
    assert options["AIRFLOW__CELERY__BROKER_URL"]
    used = {key for name in SERVICES for key in environment(name) if key.startswith("AIRFLOW__")}
    assert used
    unknown = [
        key
        for key in used
        if not (options.get(key.removesuffix("_CMD")) if key.endswith("_CMD") else key in options)
    ]
    assert unknown == []


def is_setting(key: str) -> bool:
    """Whether the package reads it, itself or as the file of a secret."""
    fields = Settings.model_fields
    name = key.removeprefix("BC_").lower()
    if name in fields:
        return True
    field = fields.get(name.removesuffix("_file"))
    return name.endswith("_file") and field is not None and SecretStr in get_args(field.annotation)


def test_every_setting_of_ours_exists() -> None:
    used = {key for name in SERVICES for key in environment(name) if key.startswith("BC_")}
    variables = set(re.findall(r"\$\{(BC_[A-Z_]+)", TEXT))
    assert used
    assert variables
    assert [key for key in used | variables if not is_setting(key)] == []


@each_service
def test_secret_settings_come_from_files_alone(name: str) -> None:
    secret = {key for key, about in Settings.model_fields.items() if "Secret" in str(about)}
    for key in environment(name):
        assert key.removeprefix("BC_").lower() not in secret


def test_what_can_be_set_from_outside_is_documented() -> None:
    variables = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    assert [key for key in sorted(variables) if f"`{key}`" not in PAGE] == []


# Secrets ------------------------------------------------------------------------------


def read_secrets(name: str) -> set[str]:
    """Secrets that a service names anywhere: settings, command, check, mounted files."""
    said = {key: value for key, value in SERVICES[name].items() if key != "secrets"}
    named = SECRET_PATH.findall(json.dumps(said))
    for source, _ in mounts(name).values():
        if source.startswith("./docker"):
            files = [path for path in (ROOT / source).rglob("*") if path.is_file()]
            named += SECRET_PATH.findall("".join(path.read_text() for path in files))
    script = re.findall(
        r"^for secret in (.+); do", (DOCKER / "postgres/databases.sh").read_text(), re.MULTILINE
    )
    return set(named) | (set(script[0].split()) if name == "postgres-init" else set())


@each_service
def test_a_service_gets_the_secrets_that_it_reads_and_no_other(name: str) -> None:
    assert set(SERVICES[name].get("secrets", [])) == read_secrets(name)


def test_no_secret_stands_in_the_file() -> None:
    words = re.compile(r"password|secret|token|_key|auth|url_cmd|conn", re.IGNORECASE)
    for name in SERVICES:
        for key, value in environment(name).items():
            if words.search(key) and not key.endswith(("AUTH_MANAGER", "RATE_LIMIT_KEY")):
                assert "/run/secrets/" in value, key
    assert not re.search(r"://[^/\s]*:[^/\s$]*@", TEXT)
    assert not re.search(r"--?(password|pass|requirepass|auth)[ =](?!\$\$\()", TEXT)


def test_only_what_promotes_and_commands_hold_the_signing_key() -> None:
    holders = {name for name in SERVICES if "signing_key" in SERVICES[name].get("secrets", [])}
    assert holders == {"airflow-init", "airflow-worker", "airflow-cli"}


def test_the_service_asks_airflow_as_its_lesser_user() -> None:
    holders = {
        name for name in SERVICES if "airflow_admin_password" in SERVICES[name].get("secrets", [])
    }
    assert holders == {"airflow-init", "airflow-cli"}
    assert environment("service")["BC_AIRFLOW_USER"] == SERVICE_USER
    file = environment("service")["BC_AIRFLOW_PASSWORD_FILE"]
    assert SERVICES["airflow-init"]["command"][-2:] == ["--service-password", file]


def test_the_script_of_the_databases_is_sound() -> None:
    script = DOCKER / "postgres" / "databases.sh"
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=PATIENCE)


# Open ports -------------------------------------------------------------------------


@each_service
def test_ports_are_published_on_loopback_alone(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    for port in ports:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port)
    # An internal network publishes nothing, and in one of its own nobody else is met.
    edges = [edge for edge in SERVICES[name].get("networks", []) if edge.startswith("edge-")]
    assert len(edges) == len(ports)
    for edge in edges:
        assert [other for other in SERVICES if edge in SERVICES[other].get("networks", [])] == [
            name
        ]


@each_service
def test_every_service_is_held_in_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    if name in ONE_SHOTS:
        assert service["restart"] in {"no", "on-failure:3"}
        assert "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        check = service["healthcheck"]
        assert {"test", "interval", "timeout", "retries", "start_period"} <= set(check)
        assert "curl" not in str(check["test"])


@each_service
def test_root_is_the_one_that_hands_volumes_over_and_it_reaches_nothing(name: str) -> None:
    service = SERVICES[name]
    if name != "volume-init":
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
        assert "cap_add" not in service
        return
    assert service["cap_add"] == ["CHOWN", "FOWNER"]
    assert service["network_mode"] == "none"
    assert "secrets" not in service


def test_networks_keep_apart_what_need_not_meet() -> None:
    members: dict[str, set[str]] = {network: set() for network in COMPOSE["networks"]}
    for name, service in SERVICES.items():
        for network in service.get("networks", []):
            members[network].add(name)
    internal = {name for name, about in COMPOSE["networks"].items() if about}
    assert set(members) - internal == {
        "airflow",
        *(network for network in members if network.startswith("edge-")),
    }
    assert all(about in (None, {"internal": True}) for about in COMPOSE["networks"].values())

    def met(name: str) -> set[str]:
        return set().union(*(others for others in members.values() if name in others)) - {name}

    assert met("service") == {
        *("postgres", "airflow-apiserver", "airflow-cli", "prometheus", "grafana"),
    }
    assert met("mlflow") == {"postgres", "airflow-worker", "airflow-cli"}
    # A master starts what anybody who reaches it hands in.
    assert met("spark-master") == {"spark-worker", "airflow-worker", "airflow-cli"}
    assert met("redis") == {"airflow-scheduler", "airflow-worker", "airflow-cli", "flower"}
    assert met("prometheus") == {"service", "grafana"}
    assert {"service", "mlflow"}.isdisjoint(members["database"])


def test_the_service_cannot_write_what_it_serves() -> None:
    places = mounts("service")
    assert places["/var/lib/bc_pipeline"] == ("home", False)
    writable = {target: source for target, (source, writes) in places.items() if writes}
    assert writable == {
        "/var/lib/bc_pipeline/data/wdbc/landing": "landing",
        "/var/lib/bc_pipeline/records": "records",
    }
    assert SERVICES["service"]["user"] == "10001:0"


def test_whoever_reads_the_volume_reads_the_same_landing_folder() -> None:
    for name in SERVICES:
        if name.startswith("airflow-") or name == "flower":
            places = mounts(name)
            # Pages and schedulers must not write, so that they cannot add keys or move the pointer.
            writes = name in {"airflow-init", "airflow-worker", "airflow-cli"}
            assert places["/var/lib/bc_pipeline"] == ("home", writes)
            assert places["/var/lib/bc_pipeline/data/wdbc/landing"] == ("landing", writes)
            assert SERVICES[name]["user"] == "50000:0"


# Observability ------------------------------------------------------------------------


def test_prometheus_takes_its_configuration() -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is missing: 'apt-get install prometheus' brings it")
    done = subprocess.run(
        [program, "check", "config", "--syntax-only", str(DOCKER / "prometheus/prometheus.yaml")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr


def test_prometheus_reads_the_alert_rules_that_are_tried() -> None:
    content = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text())
    (rules,) = content["rule_files"]
    source, writes = mounts("prometheus")[str(Path(rules).parent)]
    assert not writes
    assert (ROOT / source / Path(rules).name).read_text().startswith("# Alert rules")


def test_grafana_finds_its_dashboard_and_where_the_figures_are() -> None:
    provisioning = DOCKER / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())
    boards = yaml.safe_load((provisioning / "dashboards" / "bc-pipeline.yaml").read_text())
    assert boards["providers"][0]["options"]["path"] in mounts("grafana")
    known = {source["uid"] for source in sources["datasources"]}
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "targets" in panel}
    assert used == known


def test_the_dashboard_asks_for_metrics_that_the_service_tells(exposition: dict[str, str]) -> None:
    exported = {
        sample.name for family in parse(exposition["text/plain"]) for sample in family.samples
    }
    queries = [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])
    ]
    used = set(re.findall(r"\b(?:bc|process)_[a-z_]+", "\n".join(queries)))
    assert len(used) > 15
    assert used <= exported
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
