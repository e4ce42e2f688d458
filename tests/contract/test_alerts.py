"""The alert rules: each is tried by promtool, documented, and about metrics that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
RULES = Path(str(files("bc_pipeline.deployment"))) / "prometheus" / "alerts.yaml"
CASES = Path(__file__).parent / "alerts" / "cases.yaml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is missing: 'apt-get install prometheus' brings it")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=PATIENCE, cwd=CASES.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", str(RULES))


def test_the_rules_fire_when_they_should_and_not_before() -> None:
    promtool("test", "rules", str(CASES))


def test_a_rule_that_is_wrong_is_found(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES.read_text().replace("min(bc_ready) == 0", "min(bc_ready) == 2"))
    cases = tmp_path / "cases.yaml"
    cases.write_text(re.sub(r"rule_files: .*", f"rule_files: [{rules}]", CASES.read_text()))
    with pytest.raises(AssertionError, match="BcNotReady"):
        promtool("test", "rules", str(cases))


@pytest.mark.parametrize("name", ALERTS)
def test_each_fires_on_one_history_and_not_on_another(name: str) -> None:
    tried = [
        bool(case.get("exp_alerts"))
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == name
    ]
    assert {True, False} == set(tried)


@pytest.mark.parametrize("name", ALERTS)
def test_each_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    page, _, anchor = notes["runbook_url"].partition("#")
    titles = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {title.casefold().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", ALERTS)
def test_each_is_about_metrics_that_the_service_tells(
    name: str, exposition: dict[str, str]
) -> None:
    exported = {
        sample.name for family in parse(exposition["text/plain"]) for sample in family.samples
    }
    used = set(re.findall(r"\bbc_[a-z_]+", ALERTS[name]["expr"]))
    assert used
    assert used <= exported
