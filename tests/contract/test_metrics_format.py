"""What Prometheus reads: names, types, labels, and what may never stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
NAMES = re.compile(r"\b(?:bc|process)_[a-z0-9_]+\b")
TEXT = "text/plain"
# Everything that a label may be; a new one is a decision about what is told, and how often.
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
    """Names of the table with their labels."""
    found: dict[str, set[str]] = {}
    for names, labels in re.findall(r"^\| (`(?:bc|process)_[^|]+) \| ([^|]*) ?\|", PAGE, re.M):
        for name in NAMES.findall(names):
            found[name] = set(re.findall(r"`([a-z_]+)`", labels))
    return found


def exposed(text: str) -> dict[str, set[str]]:
    """Names as they are documented, with the labels that the service gave them."""
    found: dict[str, set[str]] = {}
    for family in parse(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = labels - {"le"}
    return found


def test_the_table_names_what_there_is_and_nothing_else(exposition: dict[str, str]) -> None:
    assert documented() == exposed(exposition[TEXT])


def test_no_other_label_is_told(exposition: dict[str, str]) -> None:
    told = {
        label
        for family in parse(exposition[TEXT])
        for sample in family.samples
        for label in sample.labels
    }
    assert told == LABELS


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


def test_nothing_of_a_request_is_told(exposition: dict[str, str]) -> None:
    for text in exposition.values():
        assert "canary" not in text.casefold()
        assert "192.0.2" not in text


def test_promtool_finds_nothing_to_say(exposition: dict[str, str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: 'apt-get install prometheus' brings it")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=exposition[TEXT],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
