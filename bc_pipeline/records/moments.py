"""When a diagnosis was made, as a caller tells it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from bc_pipeline.errors import Defect
from bc_pipeline.records.entry import is_id, time_of

FIELD = "observed_at"
# A date without a time is the start of a day, and clocks of two places differ by up to a day.
_LEEWAY = 86_400.0


def read_moment(text: str, prediction_id: str) -> float | Defect:
    """Seconds since 1970 of an ISO 8601 date or time, or what is wrong with it.

    Without a zone it is UTC. A diagnosis is made after its prediction, and not in the future;
    an id that none of ours may be has no time to compare with.
    """
    now = time.time()
    try:
        read = datetime.fromisoformat(text)
        moment = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        # A zone may move a time of the calendar's first or last day out of it.
        datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError):
        return Defect("is no ISO 8601 date or time", column=FIELD)
    if moment > now + _LEEWAY:
        return Defect("lies in the future", column=FIELD)
    if is_id(prediction_id) and moment < min(time_of(prediction_id), now) - _LEEWAY:
        return Defect("lies before the prediction was answered", column=FIELD)
    return moment
