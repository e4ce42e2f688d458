from __future__ import annotations

import multiprocessing
import time
import uuid

import pytest

from bc_pipeline.prediction_log.entry import id_time, is_id, lowest_id, new_id


def test_ids_are_uuids_of_version_7() -> None:
    for _ in range(1_000):
        text = new_id()
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert str(parsed) == text
        assert is_id(text)


def test_ids_differ_and_tell_their_time() -> None:
    before = time.time()
    ids = [new_id() for _ in range(20_000)]
    after = time.time()
    assert len(set(ids)) == len(ids)
    assert all(before - 0.001 <= id_time(made) <= after for made in ids)


def test_ids_sort_by_time() -> None:
    early = new_id()
    time.sleep(0.002)
    middle = time.time()
    time.sleep(0.002)
    late = new_id()
    assert early < lowest_id(middle) < late
    assert is_id(lowest_id(middle))
    assert id_time(lowest_id(middle)) == pytest.approx(middle, abs=0.001)


def test_a_forked_process_hands_out_other_ids() -> None:
    new_id()
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=lambda: writer.send([new_id()[14:] for _ in range(100)]))
    child.start()
    theirs = set(reader.recv())
    child.join()
    reader.close()
    writer.close()
    assert not theirs & {new_id()[14:] for _ in range(300)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "01a1fea2-5516-4a15-9fc8-57e2af41a186",
        "01a1fea2-5516-7a15-7fc8-57e2af41a186",
        "01A1FEA2-5516-7A15-9FC8-57E2AF41A186",
        "01a1fea2-5516-7a15-9fc8-57e2af41a186\n",
        "01a1fea255167a159fc857e2af41a186",
    ],
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert not is_id(text)
