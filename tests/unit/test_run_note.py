from __future__ import annotations

import pytest

from bc_pipeline.conclusion import Conclusion
from bc_pipeline.run_note import Concluded, add_lines, own_lines, read_concluded


def test_our_lines_stand_below_those_of_people_and_are_written_once() -> None:
    note = add_lines("Ada: looked at it", ["1 landed file was refused", "2 of 9 rows"])
    assert note == "Ada: looked at it\nIngest: 1 landed file was refused\nIngest: 2 of 9 rows"
    assert add_lines(note, ["1 landed file was refused", "2 of 9 rows"]) == note
    assert own_lines(note) == ["1 landed file was refused", "2 of 9 rows"]
    assert (add_lines(None, []), add_lines("by Ada", [])) == (None, "by Ada")
    assert own_lines("by Ada") == []


def test_a_long_note_fits_the_column_and_says_where_the_rest_is() -> None:
    note = add_lines(None, ["x" * 2000])
    assert note is not None
    assert len(note) == 1000
    assert note.endswith("The tab Gate verdict has all.")


@pytest.mark.parametrize("conclusion", Conclusion)
def test_the_result_is_read_as_it_was_written(conclusion: Conclusion) -> None:
    concluded = Concluded(conclusion, "Because (of that). And more.")
    note = add_lines("Ada: seen", ["a.csv"], concluded)
    assert note is not None
    assert read_concluded(note) == concluded
    assert note.splitlines()[0] == "Ada: seen"
    assert own_lines(note) == ["a.csv"]
    again = add_lines(note, ["a.csv"], Concluded(conclusion, "Other."))
    assert again is not None
    assert read_concluded(again) == Concluded(conclusion, "Other.")


def test_a_note_of_people_is_no_result() -> None:
    assert read_concluded("Result: fine (I think). Really") is None
    assert read_concluded("promoted (trained and promoted).") is None


def test_a_reason_of_any_length_and_lines_is_one_line() -> None:
    note = add_lines(None, [], Concluded(Conclusion.GATE_FAILED, "a\nb " * 500))
    assert note is not None
    assert len(note) < 600
    assert "\n" not in note
