from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.demo_feed import WORKLIST_ROWS, write_demo_feed
from bc_pipeline.data.split import hash_position
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import row_key
from tests.volumes import new_store

NOW = datetime(2026, 11, 21, 11, 54, tzinfo=UTC)  # a Saturday
SUNDAY = datetime(2026, 11, 15, tzinfo=UTC)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def keys_of(problem: Problem, path: Path) -> list[str]:
    return [row_key([float(row[name]) for name in problem.schema.names]) for row in read(path)]


def arrival(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_lands_a_base_and_52_weeks_in_order_of_time(wdbc: Problem, store: Store) -> None:
    written = write_demo_feed(wdbc, store, NOW)

    landed = sorted(store.landing.iterdir())
    assert written == [*landed, store.worklist / "demo_week.csv"]
    assert landed[0].name == "2025-11-09_base.csv"
    assert arrival(landed[0]) == SUNDAY - timedelta(weeks=53)
    weeks = landed[1:]
    assert [arrival(path) for path in weeks] == [
        SUNDAY - timedelta(weeks=52) + timedelta(weeks=week, days=3.5) for week in range(52)
    ]
    assert weeks[-1].name == "2026-11-11_week-52.csv"
    for path in landed:
        assert path.name.startswith(f"{arrival(path):%Y-%m-%d}_")


def test_every_public_row_lands_once_with_its_label_and_exact_values(
    wdbc: Problem, store: Store, reference: tuple[np.ndarray, np.ndarray]
) -> None:
    write_demo_feed(wdbc, store, NOW)

    landed = {}
    for path in store.landing.iterdir():
        for row in read(path):
            values = tuple(float(row[name]) for name in wdbc.schema.names)
            assert values not in landed
            landed[values] = row["diagnosis"]
            assert row["id"] == f"wdbc-{row_key(values)[:10]}"
    assert landed == {
        tuple(values): {0: "M", 1: "B"}[int(code)] for values, code in zip(*reference, strict=True)
    }


def test_rows_are_assigned_to_files_by_their_position_in_the_hash_space(
    wdbc: Problem, store: Store
) -> None:
    write_demo_feed(wdbc, store, NOW)

    base, *weeks = sorted(store.landing.iterdir())
    positions = [
        [hash_position(wdbc.split.salt, key) for key in keys_of(wdbc, path)]
        for path in (base, *weeks)
    ]
    assert max(positions[0]) < 0.6
    assert sum(position < 0.2 for position in positions[0]) == 110
    for earlier, later in pairwise(positions):
        assert max(earlier) < min(later)
    sizes = {len(file) for file in positions[1:]}
    assert sizes == {4, 5}


def test_a_second_call_writes_nothing(wdbc: Problem, store: Store) -> None:
    write_demo_feed(wdbc, store, NOW)
    before = contents(store.landing)

    assert write_demo_feed(wdbc, store, NOW) == []
    assert write_demo_feed(wdbc, store, NOW + timedelta(weeks=3)) == []
    assert contents(store.landing) == before


def test_an_incomplete_feed_is_completed_weeks_later_with_its_own_dates(
    wdbc: Problem, store: Store
) -> None:
    write_demo_feed(wdbc, store, NOW)
    before = contents(store.landing)
    lost = store.landing / "2026-11-11_week-52.csv"
    lost.unlink()

    assert write_demo_feed(wdbc, store, NOW + timedelta(weeks=3)) == [lost]
    assert contents(store.landing) == before
    assert arrival(lost) == datetime(2026, 11, 11, 12, tzinfo=UTC)


def test_an_existing_file_is_left_alone(wdbc: Problem, store: Store) -> None:
    write_demo_feed(wdbc, store, NOW)
    existing = store.landing / "2025-11-09_base.csv"
    existing.write_text("mine")
    (store.worklist / "demo_week.csv").write_text("mine too")

    write_demo_feed(wdbc, store, NOW)

    assert existing.read_text() == "mine"
    assert (store.worklist / "demo_week.csv").read_text() == "mine too"


def test_weekly_files_are_not_written_again_where_the_base_file_is_gone(
    wdbc: Problem, store: Store
) -> None:
    write_demo_feed(wdbc, store, NOW)
    (store.landing / "2025-11-09_base.csv").unlink()

    written = write_demo_feed(wdbc, store, NOW + timedelta(weeks=3))

    assert [path.name for path in written] == ["2025-11-30_base.csv"]


def test_other_landed_files_do_not_change_the_dates(wdbc: Problem, store: Store) -> None:
    store.landing.mkdir(parents=True)
    (store.landing / "clinic_base.csv").write_text("x")

    write_demo_feed(wdbc, store, NOW)

    assert (store.landing / "2026-11-11_week-52.csv").exists()


def test_content_of_a_file_does_not_depend_on_the_time_of_the_call(
    wdbc: Problem, store: Store, tmp_path: Path
) -> None:
    other = new_store(tmp_path / "other")
    write_demo_feed(wdbc, store, NOW)
    write_demo_feed(wdbc, other, NOW + timedelta(weeks=10))

    ours, theirs = (
        [path.read_bytes() for path in sorted(feed.landing.iterdir())] for feed in (store, other)
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (SUNDAY, "2026-11-11"),
        (SUNDAY - timedelta(seconds=1), "2026-11-04"),
        (SUNDAY + timedelta(days=6, hours=23), "2026-11-11"),
        # Already Sunday in Auckland, still Saturday in UTC.
        (datetime(2026, 11, 15, 9, tzinfo=timezone(timedelta(hours=13))), "2026-11-04"),
    ],
)
def test_weeks_end_on_the_last_sunday_midnight_utc(
    wdbc: Problem, store: Store, now: datetime, last: str
) -> None:
    write_demo_feed(wdbc, store, now)

    assert max(path.name for path in store.landing.iterdir()) == f"{last}_week-52.csv"


def test_the_worklist_has_unlabelled_rows_that_are_never_trained_on(
    wdbc: Problem, store: Store
) -> None:
    write_demo_feed(wdbc, store, NOW)

    path = store.worklist / "demo_week.csv"
    rows = read(path)
    assert len(rows) == WORKLIST_ROWS == len({row["id"] for row in rows})
    assert set(rows[0]) == {"id", *wdbc.schema.names}
    assert all(hash_position(wdbc.split.salt, key) < 0.2 for key in keys_of(wdbc, path))


def test_the_worklist_has_arrived_by_the_end_of_the_last_week(wdbc: Problem, store: Store) -> None:
    write_demo_feed(wdbc, store, NOW)

    arrived = (store.worklist / "demo_week.csv").stat().st_mtime
    assert arrived <= NOW.timestamp()
    assert datetime.fromtimestamp(arrived, UTC).isoweekday() == 7


def test_a_small_problem_gets_only_the_files_it_has_rows_for(toy: Problem, tmp_path: Path) -> None:
    store = new_store(tmp_path / "home", "toy")

    write_demo_feed(toy, store, NOW)

    landed = [keys_of(toy, path) for path in sorted(store.landing.iterdir())]
    assert all(landed)
    assert sum(map(len, landed)) == 10
    assert all(hash_position(toy.split.salt, key) < 0.75 for key in landed[0])
    listed = keys_of(toy, store.worklist / "demo_week.csv")
    assert 0 < len(listed) < 10
    assert all(hash_position(toy.split.salt, key) < 0.5 for key in listed)
