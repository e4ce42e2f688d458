from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bc_pipeline.artifacts.files import write_record
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import AuditBroken
from bc_pipeline.promotion import audit

AT = "2026-11-15T06:00:00Z"


def _append(store: Store, version: str = "v", **changes: Any) -> audit.AuditLine:
    return audit.append(
        store,
        "verdict",
        **({"version": version, "generation": 0, "actor": "a", "at": AT} | changes),
    )


@pytest.fixture
def written(store: Store) -> list[audit.AuditLine]:
    return [_append(store, f"v{number}", details={"passed": True}) for number in range(4)]


def test_lines_are_read_as_they_were_written(store: Store, written: list[audit.AuditLine]) -> None:
    assert audit.read(store) == written
    assert [line.sequence for line in written] == [1, 2, 3, 4]
    assert written[0].previous_sha256 == "0" * 64
    assert [line.previous_sha256 for line in written[1:]] == [line.sha256 for line in written[:3]]
    report = audit.verify(store)
    assert (report.lines, report.head) == (4, written[-1].sha256)
    assert not report.unfinished_line


def test_anyone_can_check_a_line(store: Store, written: list[audit.AuditLine]) -> None:
    import hashlib

    raw = store.audit.read_bytes().splitlines()[2]
    bare = raw.replace(written[2].sha256.encode(), b"")
    assert hashlib.sha256(bare).hexdigest() == json.loads(raw)["sha256"]


def test_no_log_is_an_empty_one(store: Store) -> None:
    assert audit.read(store) == []
    assert audit.verify(store).lines == 0


def _second(change: Callable[[bytes], bytes]) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [lines[0], change(lines[1]), *lines[2:]]


def _resealed(raw: bytes) -> bytes:
    """What somebody would write who knows how lines are sealed, but changes one only."""
    import msgspec

    line = msgspec.json.decode(raw, type=audit.AuditLine)
    return audit._encode(audit._sealed(msgspec.structs.replace(line, actor="mallory")))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_second(lambda raw: raw.replace(b"true", b"false")), 2),
        (_second(lambda raw: raw.replace(b'"a"', b'"b"')), 2),
        (_second(lambda raw: raw + b" "), 2),
        (_second(lambda raw: b" " + raw), 2),
        (_second(lambda raw: raw[:-1]), 2),
        (_second(lambda raw: b""), 2),
        (_second(lambda raw: b"{}"), 2),
        (_second(lambda raw: b"\0" * len(raw)), 2),
        (_second(_resealed), 3),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], 2),
        (lambda lines: [*lines, lines[3]], 5),
    ],
)
def test_any_change_breaks_the_chain_at_its_line(
    store: Store,
    written: list[audit.AuditLine],
    change: Callable[[list[bytes]], list[bytes]],
    line: int,
) -> None:
    lines = store.audit.read_bytes().splitlines()
    store.audit.write_bytes(b"".join(raw + b"\n" for raw in change(lines)))
    for use in (audit.verify, audit.read, _append):
        with pytest.raises(AuditBroken) as caught:
            use(store)
        assert caught.value.line == line
        assert "backup" in caught.value.remedy


def test_every_cut_of_the_last_line_is_mended_by_the_next(
    store: Store, written: list[audit.AuditLine]
) -> None:
    data = store.audit.read_bytes()
    start = data[:-1].rfind(b"\n") + 1
    for cut in range(start + 1, len(data)):
        store.audit.write_bytes(data[:cut])
        assert audit.verify(store).unfinished_line
        assert audit.read(store) == written[:3]
        assert _append(store).sequence == 4
        report = audit.verify(store)
        assert (report.lines, report.unfinished_line) == (4, False)


def test_another_problems_log_is_told_apart(store: Store, written: list[audit.AuditLine]) -> None:
    other = Store(store.home, "rna")
    other.audit.write_bytes(store.audit.read_bytes())
    with pytest.raises(AuditBroken, match="belongs to wdbc"):
        audit.read(other)


def test_a_registry_that_moved_by_itself_is_found(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    store = challengers.store
    assert audit.verify(store).generation == 2
    write_record(store.registry, Registry(problem="wdbc", generation=3))
    with pytest.raises(AuditBroken, match="something else than a release"):
        audit.verify(store)


def test_a_log_whose_end_was_cut_off_is_found(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    lines = challengers.store.audit.read_bytes().splitlines(keepends=True)
    challengers.store.audit.write_bytes(b"".join(lines[:2]))
    with pytest.raises(AuditBroken, match="v2 at generation 2"):
        audit.verify(challengers.store)


def test_a_generation_that_was_left_out_is_found(store: Store) -> None:
    for generation in (1, 3):
        audit.append(store, "promotion", version="v", generation=generation, actor="a", at=AT)
    with pytest.raises(AuditBroken, match="Generation 3 follows generation 1") as caught:
        audit.verify(store)
    assert caught.value.line == 2
