from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable

import pytest

from bc_pipeline import errors
from bc_pipeline.cli import output
from bc_pipeline.cli.failures import EXIT_CODES, SystemFailure, exit_code, run_to_exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 3),
        (errors.FileRefused("x"), 4),
        (errors.DegenerateModel("x"), 5),
        (errors.NoChampion("x"), 6),
        (errors.StackError("x"), 7),
        (errors.TransientError("x"), 8),
        (errors.KeyRefused("x"), 9),
    ],
)
def test_each_branch_of_the_error_tree_has_its_code(error: errors.PipelineError, code: int) -> None:
    assert exit_code(error) == code


def test_codes_are_distinct() -> None:
    codes = [code for _, code, _ in EXIT_CODES]
    assert len(codes) == len(set(codes))


def fail(error: Exception) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def test_an_error_is_shown_as_a_message_and_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    defects = (errors.Defect("is missing", column="mean_radius"), errors.Defect("is odd", line=3))
    error = errors.SchemaMismatch("No good.", "Mend it.", source="a.csv", defects=defects)
    assert run_to_exit_code(fail(error), as_json=True) == 4
    out, err = capsys.readouterr()
    text = "No good: column 'mean_radius': is missing; line 3: is odd."
    assert err == f"schema-mismatch: {text} Mend it.\n"
    shown = json.loads(out)["error"]
    assert shown["fields"].pop("defects")[1] == {"line": 3, "column": None, "reason": "is odd"}
    assert shown == {
        "code": "schema-mismatch",
        "message": text,
        "remedy": "Mend it.",
        "exit_code": 4,
        "fields": {"source": "a.csv"},
    }


def test_a_full_disk_is_named_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    error = SystemFailure(OSError(errno.ENOSPC, "No space left on device", "/volume/x"))
    assert run_to_exit_code(fail(error), as_json=False) == 3
    assert capsys.readouterr().err == (
        "volume: /volume/x: No space left on device. "
        "Free space, or point BC_HOME at a folder you can write.\n"
    )


def test_other_errors_of_the_system_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    error = SystemFailure(FileNotFoundError(errno.ENOENT, "No such file or directory", "/x/y"))
    assert run_to_exit_code(fail(error), as_json=True) == 3
    out, err = capsys.readouterr()
    assert err == "system: /x/y: No such file or directory. Name another file or folder.\n"
    assert json.loads(out)["error"]["fields"] == {"errno": "ENOENT", "path": "/x/y"}


def test_a_fault_of_the_program_shows_its_place_and_no_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> None:
        errors.error_from_dict({"code": "842302"})

    assert run_to_exit_code(command, as_json=False) == 9
    err = capsys.readouterr().err
    assert err.startswith("internal: KeyError at bc_pipeline/errors.py:")
    assert len(err.splitlines()) == 1
    assert "842302" not in err
    assert run_to_exit_code(command, as_json=False, verbose=True) == 9
    assert "Traceback" in capsys.readouterr().err


def test_an_error_over_several_lines_is_shown_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    run_to_exit_code(fail(errors.StackError("One\n  two [bold]x[/] \udcff.")), as_json=False)
    assert capsys.readouterr().err == "stack: One two [bold]x[/] \\udcff.\n"


@pytest.mark.parametrize("reply", ["n\n", "", "\n"])
def test_a_question_that_is_not_answered_with_yes(
    reply: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(reply))
    assert run_to_exit_code(lambda: output.confirm("Sure?"), as_json=False) == 12
    assert "declined: Nothing was done" in (err := capsys.readouterr().err)
    assert "--yes" in err
