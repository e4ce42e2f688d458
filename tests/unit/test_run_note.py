from __future__ import annotations

from bc_pipeline.run_note import add_lines, own_lines


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
