"""The log's bytes on disk: a drainer of a later release must read what an earlier one left."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import msgspec
import pytest

from bc_pipeline.encryption import Cipher
from bc_pipeline.prediction_log import segments
from bc_pipeline.prediction_log.drain import Drainer
from bc_pipeline.prediction_log.entry import LogEntry
from bc_pipeline.prediction_log.frames import (
    MAGIC,
    EncryptedEntry,
    encode_frame,
    encrypt,
    private_fields,
    read_frames,
)
from bc_pipeline.prediction_log.predictions import find_prediction
from bc_pipeline.prediction_log.segments import spool_folder
from bc_pipeline.prediction_log.spool import Spool
from bc_pipeline.prediction_log.status import Status, read_status
from bc_pipeline.settings import Settings

ENTRY = LogEntry(
    id="01a1fea2-5516-7a15-9fc8-57e2af41a186",
    at=1795274118.5,
    version="20260601T000000Z-logistic-3f2a9c1b7d",
    manifest_sha256="ab" * 32,
    probability=0.75,
    positive=True,
    latency=0.0005,
    caller="ward",
    route="/v1/predict",
    values=bytes(range(16)),
    sample_id="s-1",
)
# Written by release 0.1.0; do not change it.
PAYLOAD = (
    b"\x9b\xd9\x2401a1fea2-5516-7a15-9fc8-57e2af41a186"
    b"\xcb\x41\xda\xc0\x6d\x61\xa0\x00\x00"
    b"\xd9\x2420260601T000000Z-logistic-3f2a9c1b7d"
    b"\xd9\x40" + b"ab" * 32 + b"\xcb\x3f\xe8\x00\x00\x00\x00\x00\x00\xc3"
    b"\xcb\x3f\x40\x62\x4d\xd2\xf1\xa9\xfc"
    b"\xa4ward\xab/v1/predict\xc4\x10" + bytes(range(16)) + b"\xa3s-1"
)
FRAME = b"\xd2\x00\x00\x00\x9c\x07\xc1\x40" + PAYLOAD


def test_the_bytes_of_a_record() -> None:
    assert MAGIC == b"BCREC001"
    assert encode_frame(ENTRY) == FRAME
    assert [found.entry for found in read_frames(FRAME, closed=True)] == [ENTRY]


def test_a_reader_takes_records_that_have_more_fields_than_it_knows() -> None:
    longer = [*msgspec.structs.astuple(ENTRY), "of a later release"]
    payload = msgspec.msgpack.encode(longer)
    assert msgspec.msgpack.decode(payload, type=LogEntry) == ENTRY


def test_a_sealed_record_opens_with_its_key() -> None:
    cipher = Cipher(bytes(32))
    box = bytes.fromhex(
        "424358313917939abdfcd4283969e467dd7637422dc8c09c0612593255176f588fe673ac"
        "c15aeb54876896cab8bbab470032fad1f739803381538f5a4ae14c"
    )
    sealed = encrypt(ENTRY, cipher)
    stored = msgspec.structs.replace(sealed, ciphertext=box)
    assert private_fields(stored, cipher) == (ENTRY.values, ENTRY.sample_id)
    assert msgspec.structs.astuple(sealed)[:9] == msgspec.structs.astuple(ENTRY)[:9]
    (found,) = read_frames(encode_frame(sealed), closed=True)
    assert isinstance(found.entry, EncryptedEntry)


def test_names_on_the_volume(settings: Settings) -> None:
    spool = Spool.open(settings, "worker-3")
    spool.append([ENTRY])
    folder = spool_folder(settings.records)
    assert folder == settings.home / "records" / "wdbc" / "spool"
    (path,) = folder.iterdir()
    assert re.fullmatch(r"[0-9a-f-]{36}-worker-3\.seg", path.name)
    assert path.read_bytes() == MAGIC + FRAME
    spool.close()


def test_a_segment_of_an_earlier_release_is_drained(settings: Settings) -> None:
    folder = spool_folder(settings.records)
    folder.mkdir(parents=True)
    (folder / "01a1fea2-5516-7a15-9fc8-57e2af41a186-worker-0.seg").write_bytes(MAGIC + FRAME)
    drainer = Drainer(settings, threading.Event())
    assert drainer.run(once=True)
    assert segments.list_segments(folder) == []
    assert find_prediction(settings, ENTRY.id).values == ENTRY.values
    drainer.close()


def test_the_drainers_status(tmp_path: Path) -> None:
    plain = {
        "database": "away",
        "since": 1.5,
        "error": "57P03",
        "backlog": 10,
        "oldest": 2.5,
        "drained": 3,
        "damaged": 1,
        "refused": 0,
        "outcomes": {"v": {"tp": 1, "fn": 2, "fp": 3, "tn": 4}},
        "written_at": 9.5,
    }
    (tmp_path / "status.json").write_bytes(msgspec.json.encode(plain))
    status = read_status(tmp_path)
    assert isinstance(status, Status)
    # The file of an earlier drainer lacks the window.
    assert msgspec.to_builtins(status) == plain | {"recent_outcomes": {}}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"database": "lost", "since": 1}'])
def test_a_status_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    assert read_status(tmp_path) is None
    (tmp_path / "status.json").write_bytes(content)
    assert read_status(tmp_path) is None
