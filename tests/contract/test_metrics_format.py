"""The exposition for Prometheus: names, types, labels, and no content of requests."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.waiting import PATIENCE

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
NAMES = re.compile(r"\b(?:bc|process)_[a-z0-9_]+\b")
TEXT = "text/plain"
# All labels; adding one is a decision about privacy and the number of time series.
LABELS = {
    "call",
    "candidate",
    "code",
    "code_version",
    "feature",
    "generation",
    "kind",
    "le",
    "manifest",
    "method",
    "metric",
    "model_version",
    "python_version",
    "reason",
    "route",
    "status",
    "truth",
    "version",
}


def documented() -> dict[str, set[str]]:
    """Documented names with their labels."""
    rows = re.findall(r"^\| (`(?:bc|process)_[^|]+) \| ([^|]*) ?\|", PAGE, re.M)
    return {
        name: set(re.findall(r"`([a-z_]+)`", labels))
        for names, labels in rows
        for name in NAMES.findall(names)
    }


def exposed(text: str) -> dict[str, set[str]]:
    """Exposed names, in the documented form, with their labels."""
    labels_by_name: dict[str, set[str]] = {}
    for family in parse(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        labels_by_name[name] = labels - {"le"}
    return labels_by_name


def test_the_documented_metrics_are_those_exposed(exposition: dict[str, str]) -> None:
    assert documented() == exposed(exposition[TEXT])


def test_the_labels_are_those_listed(exposition: dict[str, str]) -> None:
    labels = {
        label
        for family in parse(exposition[TEXT])
        for sample in family.samples
        for label in sample.labels
    }
    assert labels == LABELS


def test_every_family_has_samples_and_a_help(exposition: dict[str, str]) -> None:
    for family in parse(exposition[TEXT]):
        assert family.samples, family.name
        assert family.documentation.endswith("."), family.name
        assert family.type in {"counter", "gauge", "histogram"}, family.name


def test_both_formats_say_the_same(exposition: dict[str, str]) -> None:
    plain = {family.name: family.type for family in parse(exposition[TEXT])}
    other = {
        family.name: family.type
        for family in parse_open(exposition["application/openmetrics-text"])
    }
    assert plain == other


def test_no_content_of_a_request_is_exposed(exposition: dict[str, str]) -> None:
    for text in exposition.values():
        assert "canary" not in text.casefold()
        assert "192.0.2" not in text


def test_promtool_reports_nothing(exposition: dict[str, str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: 'apt-get install prometheus' brings it")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=exposition[TEXT],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
