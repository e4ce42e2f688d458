"""The demo feed: a problem's public rows, replayed as a base and 52 weekly files.

The public file is not in a neutral order, so rows are dealt out by their place in the
hash space of the split: the holdout and half of the train rows stand in the base file,
the rest follow in narrow bands, one each week. An as-of time therefore means something
for a whole year, and the holdout stays the same throughout it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bc_pipeline.artifacts.files import write_atomic
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.rows import row_keys
from bc_pipeline.data.split import hash_position
from bc_pipeline.problems.base import Problem
from bc_pipeline.schema import ID_COLUMN

if TYPE_CHECKING:
    import numpy as np

WEEKS = 52
WORKLIST_ROWS = 25
WORKLIST_FILE = "demo_week.csv"
_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class _Band:
    """One file of the feed: its label in the name, its rows, and when it arrives."""

    label: str
    rows: tuple[int, ...]
    arrives: datetime


def write_demo_feed(problem: Problem, store: Store, now: datetime) -> list[Path]:
    """Land the demo files that are not there yet, each with its time of arrival.

    The base arrives 53 weeks before the last Sunday 00:00 UTC, week ``k`` in the middle
    of the ``k``-th of the 52 weeks that end there: at the end of the last complete week
    all rows have arrived. A feed begun earlier keeps its calendar, whatever `now` is, so
    no row lands twice. One file without labels, of rows that are never trained on, goes
    to the worklist for batch scoring.

    Parameters
    ----------
    now : datetime
        With its time zone.

    Returns
    -------
    list of Path
        The files that this call wrote, by time of arrival, the worklist last.
    """
    import numpy as np

    reference = problem.load_reference()
    keys = row_keys(reference.values)
    places = [hash_position(problem.split.salt, key) for key in keys]
    by_place = tuple(int(row) for row in np.argsort(places, kind="stable"))

    end = _end_of_feed(store, now)
    written = []
    for band in _bands(problem, places, by_place, end):
        if any(store.landing.glob(f"*_{band.label}.csv")):
            continue
        path = store.landing / f"{band.arrives:%Y-%m-%d}_{band.label}.csv"
        content = _csv(problem, keys, reference.values, reference.codes, band.rows)
        write_atomic(path, content, modified=band.arrives.timestamp())
        written.append(path)
    worklist = store.worklist / WORKLIST_FILE
    if not worklist.exists():
        rows = [row for row in by_place if places[row] < problem.split.holdout_share]
        content = _csv(problem, keys, reference.values, None, rows[:WORKLIST_ROWS])
        # Like the last week's rows: a daily run of yesterday already finds it.
        write_atomic(worklist, content, modified=end.timestamp())
        written.append(worklist)
    return written


def _end_of_feed(store: Store, now: datetime) -> datetime:
    """The Sunday, 00:00 UTC, at which the 52 weeks end."""
    for base in sorted(store.landing.glob("[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]_base.csv")):
        begun = datetime.strptime(base.name[:10], "%Y-%m-%d").replace(tzinfo=UTC)
        return begun + (WEEKS + 1) * _WEEK
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=today.isoweekday() % 7)


def _bands(
    problem: Problem, places: Sequence[float], by_place: tuple[int, ...], end: datetime
) -> list[_Band]:
    """Deal the rows, sorted by place, into the base and 52 bands of nearly equal size."""
    import numpy as np

    held_out = problem.split.holdout_share
    base_share = held_out + (1 - held_out) / 2
    base_rows = sum(place < base_share for place in places)
    weekly = np.array_split(np.array(by_place[base_rows:], dtype=int), WEEKS)
    middle = _WEEK / 2
    bands = [_Band("base", by_place[:base_rows], end - (WEEKS + 1) * _WEEK)]
    bands += [
        _Band(f"week-{week:02d}", tuple(rows.tolist()), end - (WEEKS + 1 - week) * _WEEK + middle)
        for week, rows in enumerate(weekly, start=1)
    ]
    return [band for band in bands if band.rows]


def _csv(
    problem: Problem,
    keys: Sequence[str],
    values: np.ndarray,
    codes: np.ndarray | None,
    rows: Sequence[int],
) -> bytes:
    """Rows under canonical names, with an id made of the key, and labels where given."""
    labels = problem.labels
    spelling = {
        label.code: label.spellings[0].upper() for label in (labels.positive, labels.negative)
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = [ID_COLUMN, *problem.schema.names]
    writer.writerow(header if codes is None else [*header, labels.column])
    for row in rows:
        # repr of a float is the shortest text that reads back as the same float.
        cells = [f"{problem.name}-{keys[row][:10]}", *map(repr, values[row].tolist())]
        writer.writerow(cells if codes is None else [*cells, spelling[int(codes[row])]])
    return text.getvalue().encode()
