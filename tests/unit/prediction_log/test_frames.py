from __future__ import annotations

import os
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.encryption import Cipher
from bc_pipeline.errors import DecryptionFailed
from bc_pipeline.prediction_log.entry import LogEntry, new_id
from bc_pipeline.prediction_log.frames import (
    MAX_PAYLOAD,
    EncryptedEntry,
    encode_frame,
    encrypt,
    private_fields,
    read_frames,
)


def made(**changes: object) -> LogEntry:
    fields = {
        "id": new_id(),
        "at": 1.5,
        "version": "v",
        "manifest_sha256": "d",
        "probability": 0.5,
        "positive": False,
        "latency": 0.001,
        "caller": "c",
        "route": "/",
        "values": bytes(240),
        "sample_id": "s",
    }
    return LogEntry(**(fields | changes))


ENTRIES = [made() for _ in range(20)]
FRAMES = [encode_frame(entry) for entry in ENTRIES]
DATA = b"".join(FRAMES)
STARTS = [sum(map(len, FRAMES[:n])) for n in range(len(FRAMES) + 1)]


def test_frames_read_back() -> None:
    assert [found.entry for found in read_frames(DATA, closed=True)] == ENTRIES


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("cut", [1, 4, 8, 9, 30, len(FRAMES[-1]) - 1])
def test_an_unfinished_frame_at_the_end_is_no_damage(cut: int, closed: bool) -> None:
    data = DATA[: STARTS[-2] + cut]
    found = list(read_frames(data, closed=closed))
    assert [stretch.entry for stretch in found] == ENTRIES[:-1]


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255), st.booleans())
def test_damage_costs_the_frames_it_hits_and_no_other(at: int, change: int, closed: bool) -> None:
    data = bytearray(DATA)
    data[at] ^= change
    found = list(read_frames(bytes(data), closed=closed))
    hit = max(n for n, start in enumerate(STARTS[:-1]) if start <= at)
    read = [stretch.entry for stretch in found if stretch.entry is not None]
    if closed or hit < len(ENTRIES) - 1:
        expected = ENTRIES[:hit] + ENTRIES[hit + 1 :]
        # A changed length may promise more than is there yet: then the rest is waited for.
        assert read == (expected if closed else expected[: len(read)])
    else:
        assert read == ENTRIES[:hit]
    assert all(one.end == two.start for one, two in pairwise(found))


@given(st.binary(max_size=3_000), st.booleans())
def test_any_bytes_are_walked_through(data: bytes, closed: bool) -> None:
    end = 0
    for found in read_frames(data, closed=closed):
        assert found.start == end
        assert found.end > found.start
        end = found.end
    assert end <= len(data)


def test_frames_after_foreign_bytes_are_found() -> None:
    rubbish = os.urandom(5_000)
    found = list(read_frames(DATA + rubbish + DATA, closed=True))
    assert [f.entry for f in found if f.entry is not None] == ENTRIES + ENTRIES
    assert sum(f.entry is None for f in found) == 1


def test_zeros_after_a_power_cut_are_damage_at_the_end() -> None:
    found = list(read_frames(DATA + bytes(4_096), closed=True))
    assert [f.entry for f in found] == [*ENTRIES, None]


def test_long_damage_in_a_growing_segment_does_not_stop_the_walk() -> None:
    data = DATA + b"\xff" * (MAX_PAYLOAD * 2)
    found = list(read_frames(data, closed=False))
    assert [f.entry for f in found] == [*ENTRIES, None]
    rest = data[found[-1].end :] + DATA
    assert [f.entry for f in read_frames(rest, closed=False) if f.entry] == ENTRIES


def test_a_record_larger_than_the_log_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="larger"):
        encode_frame(made(sample_id="x" * MAX_PAYLOAD))


def test_sealed_records_hide_the_patient_and_open_in_their_place_only() -> None:
    cipher = Cipher(os.urandom(32))
    entry = made(values=b"canary-values", sample_id="canary-patient")
    sealed = encrypt(entry, cipher)
    data = encode_frame(sealed)
    assert b"canary" not in data
    (found,) = read_frames(data, closed=True)
    assert found.entry == sealed
    assert isinstance(found.entry, EncryptedEntry)
    assert private_fields(sealed, cipher) == (b"canary-values", "canary-patient")
    with pytest.raises(DecryptionFailed):
        private_fields(msgspec.structs.replace(sealed, id=new_id()), cipher)
    with pytest.raises(DecryptionFailed):
        private_fields(sealed, None)
