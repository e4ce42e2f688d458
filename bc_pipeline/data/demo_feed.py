"""The demo feed: a problem's public rows, replayed as a base and 52 weekly files.

The public file is not in random order, so rows are assigned to files by their position in the
hash space of the split: the base file has the holdout and half of the train rows, the rest
follow in equal parts, one each week. Snapshots as of any week of the year therefore differ in
their train rows, and share the holdout.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.artifacts.store import Store
from bc_pipeline.clock import checked_time
from bc_pipeline.data.rows import row_keys
from bc_pipeline.data.split import hash_position
from bc_pipeline.errors import ConfigError
from bc_pipeline.names import ID_COLUMN
from bc_pipeline.problems.base import Problem

WEEKS = 52
WORKLIST_ROWS = 25
WORKLIST_FILE = "demo_week.csv"
_WEEK = timedelta(days=7)


def write_demo_feed(problem: Problem, store: Store, now: datetime) -> list[Path]:
    """Write the missing files of the feed to the landing folder, each with its time of arrival.

    The base arrives 53 weeks before the last Sunday 00:00 UTC, week ``k`` in the middle
    of the ``k``-th of the 52 weeks that end there: at the end of the last complete week
    all rows have arrived. A feed that exists already keeps its dates, whatever `now` is, so
    that no row lands twice. One file of holdout rows without labels goes to the worklist for
    batch scoring.

    Parameters
    ----------
    now : datetime
        With its time zone.

    Returns
    -------
    list of Path
        The files that this call wrote, by time of arrival, the worklist last.
    """
    reference = problem.load_reference()
    keys = row_keys(reference.values)
    positions = [hash_position(problem.split.salt, key) for key in keys]
    by_position = np.argsort(positions, kind="stable").tolist()

    end = _end_of_feed(store, now)
    written = []
    for label, rows, arrives in _feed_files(problem, positions, by_position, end):
        if not rows or any(store.landing.glob(f"*_{label}.csv")):
            continue
        path = store.landing / f"{arrives:%Y-%m-%d}_{label}.csv"
        content = _csv(problem, keys, reference.values, reference.codes, rows)
        write_atomic(path, content, modified=arrives.timestamp())
        written.append(path)
    worklist = store.worklist / WORKLIST_FILE
    if not worklist.exists():
        rows = [row for row in by_position if positions[row] < problem.split.holdout_share]
        content = _csv(problem, keys, reference.values, None, rows[:WORKLIST_ROWS])
        # Dated like the last week's rows, so that the first daily run scores it.
        write_atomic(worklist, content, modified=end.timestamp())
        written.append(worklist)
    return written


def _end_of_feed(store: Store, now: datetime) -> datetime:
    """The Sunday, 00:00 UTC, at which the 52 weeks end."""
    pattern = "[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]_base.csv"
    for base in sorted(store.landing.glob(pattern)):
        try:
            start = checked_time(base.name[:10], base.name)
        except ConfigError:
            # A user's file, whose name only resembles those of the feed.
            continue
        return start + (WEEKS + 1) * _WEEK
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=today.isoweekday() % 7)


def _feed_files(
    problem: Problem, positions: Sequence[float], by_position: Sequence[int], end: datetime
) -> Iterator[tuple[str, list[int], datetime]]:
    """Divide the rows into the base and 52 weekly files of nearly equal size.

    Yields
    ------
    The label in the file's name, its rows, and its time of arrival.
    """
    holdout = problem.split.holdout_share
    base_share = holdout + (1 - holdout) / 2
    base_rows = sum(position < base_share for position in positions)
    yield "base", list(by_position[:base_rows]), end - (WEEKS + 1) * _WEEK
    weekly = np.array_split(np.array(by_position[base_rows:], dtype=int), WEEKS)
    for week, rows in enumerate(weekly, start=1):
        arrives = end - (WEEKS + 1 - week) * _WEEK + _WEEK / 2
        yield f"week-{week:02d}", rows.tolist(), arrives


def _csv(
    problem: Problem,
    keys: Sequence[str],
    values: np.ndarray,
    codes: np.ndarray | None,
    rows: Sequence[int],
) -> bytes:
    """Rows with canonical column names, an id made of the key, and labels if there are codes."""
    labels = problem.labels
    spellings = {
        label.code: label.spellings[0].upper() for label in (labels.positive, labels.negative)
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = [ID_COLUMN, *problem.schema.names]
    writer.writerow(header if codes is None else [*header, labels.column])
    for row in rows:
        # repr gives the shortest text that reads back as the same float.
        cells = [f"{problem.name}-{keys[row][:10]}", *map(repr, values[row].tolist())]
        writer.writerow(cells if codes is None else [*cells, spellings[int(codes[row])]])
    return text.getvalue().encode()
