"""Documentation that cannot rot: commands, settings, exit codes and links are held to the code."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer

from bc_pipeline.cli.app import app
from bc_pipeline.cli.failures import CLOSED_PIPE, DECLINED, EXIT_CODES, INTERRUPTED, TERMINATED
from bc_pipeline.cli.output import REJECTED, UNHEALTHY
from bc_pipeline.conclusion import Conclusion
from bc_pipeline.errors import PipelineError
from bc_pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def commands(group: Any, prefix: str = "bc-pipeline") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, f"{prefix} {name}")
        else:
            found[f"{prefix} {name}"] = command
    return found


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    short = name.removeprefix("bc-pipeline ")
    assert name in OPERATIONS or f"`{short}`" in OPERATIONS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_an_example(name: str) -> None:
    help_text = COMMANDS[name].help or ""
    assert f"`{name}" in help_text or f" {name}" in help_text


def test_no_command_is_documented_that_there_is_not() -> None:
    known = {name.split()[1] for name in COMMANDS}
    for page in PAGES:
        named = set(re.findall(r"bc-pipeline ([a-z][a-z-]+)", page.read_text()))
        assert named <= known, page.name


def documented_calls(page: Path) -> list[list[str]]:
    """The words of each call in a page, up to a pipe or redirection, and without comments."""
    text = page.read_text()
    lines = re.findall(r"^.*?\bbc-pipeline (?!.*`)(.+)$", text, re.MULTILINE)
    spans = re.findall(r"`[^`\n]*\bbc-pipeline ([^`\n]+)`", text)
    calls = [shlex.split(call, comments=True) for call in [*lines, *spans]]
    ends = {"|", ">", ">>", "2>", ";", "&&"}
    return [list(takewhile(lambda word: word not in ends, call)) for call in calls]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_calls_are_valid(page: Path) -> None:
    """A command that is only named may lack its arguments."""
    group = typer.main.get_command(app)
    for call in documented_calls(page):
        words, command = [word for word in call if word not in ("...", "COMMAND")], group
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        if words and not words[0].startswith("--install"):
            command.make_context("bc-pipeline", words)


def test_calls_of_the_readme_work_as_they_are() -> None:
    calls = documented_calls(ROOT / "README.md")
    assert len(calls) > 10
    for call in calls:
        placeholders = [word for word in call if re.fullmatch(r"[A-Z_]+|\.\.\.|<.*>", word)]
        assert not placeholders, call
        if not call[0].startswith("--"):
            name = next(
                name for name in COMMANDS if f"bc-pipeline {' '.join(call)} ".startswith(f"{name} ")
            )
            words = call[len(name.split()) - 1 :]
            assert COMMANDS[name].make_context(name, words) is not None


def test_settings_and_their_table_agree() -> None:
    documented = set(re.findall(r"^\| `(BC_[A-Z_]+)`", OPERATIONS, re.MULTILINE))
    assert documented == {f"BC_{name.upper()}" for name in Settings.model_fields}


def test_exit_codes_are_documented() -> None:
    for code in (
        *(code for _, code, _ in EXIT_CODES),
        REJECTED,
        UNHEALTHY,
        DECLINED,
        INTERRUPTED,
        CLOSED_PIPE,
        TERMINATED,
    ):
        assert re.search(rf"^\| (\d+, )?{code}[ ,]", OPERATIONS, re.MULTILINE), code


@pytest.mark.parametrize("conclusion", Conclusion)
def test_how_runs_end_is_documented_with_the_exit_code(conclusion: Conclusion) -> None:
    (row,) = re.findall(rf"^\| `{conclusion}` \|.*\| (.*) \|$", OPERATIONS, re.MULTILINE)
    if conclusion.exit_code:
        assert row == str(conclusion.exit_code)


def test_every_error_has_an_exit_code_of_its_own_branch() -> None:
    branches = {kind for kind, _, _ in EXIT_CODES}
    for kind in PipelineError.__subclasses__():
        assert kind in branches or kind.__name__ == "RequestRefused"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_commands_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    named = set(
        re.findall(
            r"`?make ([a-z]+(?:-[a-z]+)*)\b", " ".join(re.findall(r"`[^`]+`", page.read_text()))
        )
    )
    assert named <= targets


GLOSSARY = re.findall(
    r"^\| ([a-z][a-z -]*) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE
)
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "bc_pipeline").rglob("*.py")))


@pytest.mark.parametrize("word", GLOSSARY)
def test_words_of_the_glossary_occur_in_the_code(word: str) -> None:
    """As words of a sentence, ``in_a_name`` or ``InAClass``."""
    assert re.search(word.replace(" ", r"[ _\s]*"), SOURCE, re.IGNORECASE)


def test_the_glossary_lists_every_word_once() -> None:
    assert len(GLOSSARY) > 50
    assert len(GLOSSARY) == len(set(GLOSSARY))


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_/]+\.py)`", ARCHITECTURE))))
def test_files_of_the_architecture_exist(path: str) -> None:
    assert (ROOT / "bc_pipeline" / path).is_file() or (ROOT / path).is_file()


def test_the_architecture_names_every_room() -> None:
    rooms = {
        path.name for path in (ROOT / "bc_pipeline").iterdir() if (path / "__init__.py").exists()
    }
    assert rooms <= set(re.findall(r"^\| `([a-z_]+)/`", ARCHITECTURE, re.MULTILINE))
