from __future__ import annotations

import errno
import json

import pytest

from bc_pipeline import errors
from bc_pipeline.cli.output import EXIT_CODES, cell_text, exit_code, report_error


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


def test_an_error_is_shown_as_a_message_and_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    defects = (errors.Defect("is missing", column="mean_radius"), errors.Defect("is odd", line=3))
    error = errors.SchemaMismatch("No good.", "Mend it.", source="a.csv", defects=defects)
    assert report_error(error, as_json=True) == 4
    out, err = capsys.readouterr()
    assert "column 'mean_radius': is missing; line 3: is odd" in err
    assert "Mend it." in err
    assert json.loads(out)["error"]["defects"][1] == {
        "line": 3,
        "column": None,
        "reason": "is odd",
    }


def test_a_full_disk_is_named_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/volume/x")
    assert report_error(error, as_json=False) == 3
    assert "No space left on device" in (err := capsys.readouterr().err)
    assert "BC_HOME" in err


def test_other_errors_of_the_system_are_raised() -> None:
    with pytest.raises(FileNotFoundError):
        report_error(FileNotFoundError(errno.ENOENT, "No such file"), as_json=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "yes"), (0.123456, "0.1235"), ([], "-"), (["a", 1], "a\n1"), ("x", "x")],
)
def test_cells(value: object, text: str) -> None:
    assert cell_text(value) == text
