"""Published versions with verdicts, and Airflow in a process of its own.

Importing Airflow configures logging and reads its home for the whole process, so these
tests look at what scripts in a child process have seen.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bc_pipeline.artifacts import signed_bundle, signing, versions
from bc_pipeline.artifacts.evidence import Interval
from bc_pipeline.artifacts.files import write_document
from bc_pipeline.artifacts.manifest import Lineage, Manifest, Recipe, Registry
from bc_pipeline.artifacts.registry import write_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.verdict import Check, Verdict
from bc_pipeline.problems import get_problem
from bc_pipeline.promotion import audit
from bc_pipeline.promotion.transition import make_pointer
from bc_pipeline.settings import Settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# As Airflow does: the plugins folder is on the path, behind everything else.
sys.path.append(str(ROOT / "plugins"))
CHAMPION = "20251228T000000Z-logistic-0000000000"
HOSTILE = "<script>alert('x')</script>"
Publish = Callable[..., Manifest]


def _checks(passed: bool) -> tuple[Check, ...]:
    return (
        Check(
            "sensitivity_floor",
            "sensitivity on the holdout at least 0.9",
            passed=passed,
            blocking=True,
            champion=0.9762,
            challenger=0.9524 if passed else 0.8333,
            interval=Interval(0.8871, 1.0, 0.95),
            bound=0.9,
        ),
        Check(
            "f1_against_champion",
            f"F1 at least that of the champion, less one call {HOSTILE}",
            passed=passed,
            blocking=True,
            champion=0.9639,
            challenger=None if not passed else 0.9756,
            note="" if passed else "could not be computed",
        ),
        Check("latency", "median answer within 50 ms", passed=False, blocking=False, bound=50.0),
    )


_EVALUATION = (
    Path(__file__).parents[1] / "contract/fixtures/store_1/models/wdbc/versions"
    "/20261121T181639Z-logistic-2a39830e8e/evaluation.json"
)


def publish_judged(
    settings: Settings,
    version: str,
    *,
    passed: bool = True,
    run_id: str = "",
    generation: int = 3,
    **lineage: Any,
) -> Manifest:
    """Publish a version with a verdict, a card and two figures; no model."""
    problem = get_problem("wdbc")
    store = Store(settings.home, problem.name)
    signing.make_keys(settings.signing_key, settings.verify_key)
    folder = store.work / version
    (folder / signed_bundle.FIGURES).mkdir(parents=True)
    (folder / signed_bundle.FIGURES / "roc.png").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 4 3'>"
        "<path d='M0 3 Q0 0 4 0' fill='none' stroke='teal' stroke-width='.1'/></svg>"
    )
    (folder / signed_bundle.FIGURES / "confusion.png").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 4 3'>"
        "<rect width='2' height='1.5' fill='navy'/></svg>"
    )
    (folder / signed_bundle.CARD).write_text("# Model card\n")
    (folder / signed_bundle.MODEL).write_bytes(b"model")
    shutil.copy(_EVALUATION, folder / signed_bundle.EVALUATION)
    checks = _checks(passed)
    failed = tuple(check.rule for check in checks if check.blocking and not check.passed)
    verdict = Verdict(
        problem=problem.name,
        kind="refresh",
        passed=passed,
        better=False,
        challenger=version,
        champion=CHAMPION,
        champion_generation=generation,
        policy_digest=problem.gate.digest,
        rows_digest="r" * 64,
        reasons=failed,
        checks=checks,
    )
    write_document(folder / signed_bundle.VERDICT, verdict)
    draft = Manifest(
        problem=problem.name,
        version=version,
        recipe=Recipe("logistic", "Logistic regression", "logistic-1", {"C": 1.0}, 7),
        threshold=0.4137,
        labels=problem.labels.to_dict(),
        schema=problem.schema.to_dict(),
        schema_fingerprint=problem.schema.fingerprint,
        training_range={},
        metrics={"f1": 0.9756},
        libraries={},
        lineage=Lineage(
            **{
                "dataset": "d" * 64,
                "batches": (),
                "as_of": "2026-01-04T00:00:00Z",
                "split_salt": "salt",
                "train_rows": 400,
                "holdout_rows": 100,
                "validation": "val-1",
                "code_version": "0.1.0+0",
                "run_id": run_id,
                "interval_start": None,
                "interval_end": None,
                "live": True,
            }
            | lineage
        ),
        files={},
    )
    return versions.publish(store, draft, folder, settings.signing_key)


@pytest.fixture(scope="session")
def publish_to() -> Callable[..., str]:
    """``publish_to(home, version)`` on some volume gives the digest of the manifest."""

    def made(home: Path, version: str, **arguments: Any) -> str:
        settings = Settings(home=home)
        publish_judged(settings, version, **arguments)
        store = Store(home, "wdbc")
        return versions.open_stored(store, version, settings.verify_key).manifest_sha256

    return made


@pytest.fixture(scope="session")
def judge_against_champion(publish_to: Callable[..., str]) -> Callable[..., None]:
    """``judge_against_champion(home, requested)`` has a champion and verdicts on others.

    ``requested`` names who started the run of each version.
    """

    def made(home: Path, requested: dict[str, str]) -> None:
        publish_to(home, CHAMPION)
        settings = Settings(home=home)
        store = Store(home, "wdbc", settings.signing_key, settings.verify_key)
        files = versions.open_stored(store, CHAMPION, settings.verify_key)
        verdict = files.read_document(signed_bundle.VERDICT, Verdict)
        pointer = make_pointer(files, verdict, "2025-12-28T00:00:00Z", None)
        registry = Registry(problem="wdbc", generation=3, production=pointer)
        write_registry(store, registry)
        for version, name in requested.items():
            audit.append(
                store,
                "verdict",
                version=version,
                generation=3,
                actor="pipeline",
                at="2026-01-04T00:00:00Z",
                details={"requested_by": name},
            )

    return made


@pytest.fixture
def publish(settings: Settings) -> Publish:
    """``publish(version, passed=..., run_id=...)`` on the test's own volume."""

    def made(version: str, **arguments: Any) -> Manifest:
        return publish_judged(settings, version, **arguments)

    return made


@pytest.fixture(scope="session")
def airflow_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables for a child process: an Airflow and a volume of its own."""
    home = tmp_path_factory.mktemp("airflow")
    options = {
        "CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__UNIT_TEST_MODE": "False",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "ada:admin,otto:op",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "LOGGING__LOGGING_LEVEL": "ERROR",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        "API_AUTH__JWT_SECRET": "0123456789abcdef" * 4,
    }
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "BC_", "PYTHON"))
    }
    return (
        inherited
        | {f"AIRFLOW__{name}": value for name, value in options.items()}
        | {"AIRFLOW_HOME": str(home), "BC_HOME": str(home / "volume")}
    )


def _run_script(name: str, environment: dict[str, str], *arguments: str) -> Any:
    """The JSON that a script beside this file writes, as its last argument names it."""
    answer = Path(environment["AIRFLOW_HOME"]) / f"{name}.json"
    done = subprocess.run(
        [sys.executable, str(HERE / name), *arguments, str(answer)],
        env=environment,
        cwd=environment["AIRFLOW_HOME"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return json.loads(answer.read_text())


@pytest.fixture(scope="session")
def run_script() -> Callable[..., Any]:
    """``run_script(name, environment, *arguments)`` gives the JSON that the script wrote."""
    return _run_script


@pytest.fixture(scope="session")
def described(airflow_environment: dict[str, str]) -> dict[str, Any]:
    """The DAGs and the plugin as Airflow parses them; see ``describe.py``.

    The settings are invalid here: parsing must not read them.
    """
    return _run_script("describe.py", airflow_environment | {"BC_THREADS": "invalid"})
