from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.audit_log import GENESIS, AuditLine, read_audit_log
from bc_pipeline.artifacts.audit_tip import decode_tip
from bc_pipeline.artifacts.manifest import Registry
from bc_pipeline.artifacts.registry import write_registry
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import ArtifactCorrupt, AuditBroken, ConfigError, SignatureInvalid
from bc_pipeline.promotion import audit

AT = "2026-11-15T06:00:00Z"


@pytest.fixture
def store(store: Store) -> Store:
    """A store with a pair of keys."""
    signing.make_keys(store.signing_key, store.verify_key)
    return store


def _append(store: Store, version: str = "v", **changes: Any) -> AuditLine:
    return audit.append(
        store,
        changes.pop("event", "verdict"),
        **({"version": version, "generation": 0, "actor": "a", "at": AT} | changes),
    )


@pytest.fixture
def written(store: Store) -> list[AuditLine]:
    return [_append(store, f"v{number}", details={"passed": True}) for number in range(4)]


def test_lines_are_read_as_they_were_written(store: Store, written: list[AuditLine]) -> None:
    assert read_audit_log(store).lines == written
    assert [line.sequence for line in written] == [1, 2, 3, 4]
    assert written[0].previous_sha256 == "0" * 64
    assert [line.previous_sha256 for line in written[1:]] == [line.sha256 for line in written[:3]]
    report = audit.verify(store)
    assert (report.lines, report.head) == (4, written[-1].sha256)
    assert not report.unfinished_line


def test_anyone_can_check_a_line(store: Store, written: list[AuditLine]) -> None:
    import hashlib

    raw = store.audit.read_bytes().splitlines()[2]
    line = json.loads(raw)
    bare = raw.replace(line["sha256"].encode(), b"").replace(line["signature"].encode(), b"")
    assert hashlib.sha256(bare).hexdigest() == line["sha256"]
    statement = f"bc-pipeline audit line\nwdbc\n3\n{line['at']}\n{line['sha256']}\n".encode()
    signer = signing.verify(statement, bytes.fromhex(line["signature"]), store.verify_key)
    assert signer == line["key_id"]


def test_no_log_is_an_empty_one(store: Store) -> None:
    assert read_audit_log(store).lines == []
    assert audit.verify(store).lines == 0


def _second(change: Callable[[bytes], bytes]) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [lines[0], change(lines[1]), *lines[2:]]


def _with_new_digest(raw: bytes) -> bytes:
    """A changed line with a matching digest, which the next line does not follow."""
    line = msgspec.json.decode(raw, type=AuditLine)
    return msgspec.structs.replace(line, actor="mallory").with_digest().encode()


def _without_signature(raw: bytes) -> bytes:
    line = msgspec.json.decode(raw, type=AuditLine)
    unset = msgspec.UNSET
    return msgspec.structs.replace(line, key_id=unset, signature=unset).with_digest().encode()


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
        (_second(lambda raw: raw.replace(b'"a"', b'"\xff"')), 2),
        (_second(lambda raw: b"\0" * len(raw)), 2),
        (_second(_with_new_digest), 3),
        (_second(_without_signature), 2),
        (lambda lines: [*lines[:3], _with_new_digest(lines[3])], 4),
        (lambda lines: [*lines[:3], _without_signature(lines[3])], 4),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], 2),
        (lambda lines: [*lines, lines[3]], 5),
    ],
)
def test_any_change_breaks_the_chain_at_its_line(
    store: Store,
    written: list[AuditLine],
    change: Callable[[list[bytes]], list[bytes]],
    line: int,
) -> None:
    lines = store.audit.read_bytes().splitlines()
    store.audit.write_bytes(b"".join(raw + b"\n" for raw in change(lines)))
    for use in (audit.verify, read_audit_log, _append):
        with pytest.raises(AuditBroken) as caught:
            use(store)
        assert caught.value.line == line
        assert "backup" in caught.value.remedy


def test_every_cut_of_the_last_line_is_mended_by_the_next(
    store: Store, written: list[AuditLine]
) -> None:
    data = store.audit.read_bytes()
    start = data[:-1].rfind(b"\n") + 1
    for cut in range(start + 1, len(data)):
        store.audit.write_bytes(data[:cut])
        assert audit.verify(store).unfinished_line
        assert read_audit_log(store).lines == written[:3]
        assert _append(store).sequence == 4
        report = audit.verify(store)
        assert (report.lines, report.unfinished_line) == (4, False)


def test_another_problems_log_is_told_apart(store: Store, written: list[AuditLine]) -> None:
    other = Store(store.home, "rna")
    other.audit.write_bytes(store.audit.read_bytes())
    with pytest.raises(AuditBroken, match="belongs to wdbc"):
        read_audit_log(other)


def test_a_registry_that_moved_by_itself_is_found(challengers: Any) -> None:
    challengers.crown("v1", "v2")
    store = challengers.store
    assert audit.verify(store).generation == 2
    write_registry(store, Registry(problem="wdbc", generation=3))
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


# Signatures


def _rewrite(store: Store, lines: list[AuditLine], key: Path | None) -> None:
    """Write lines as a chain of its own, signed with a key or not at all."""
    head, data = GENESIS, b""
    unset = msgspec.UNSET
    for number, line in enumerate(lines, start=1):
        bare = msgspec.structs.replace(
            line, sequence=number, previous_sha256=head, key_id=unset, signature=unset
        )
        made = bare.signed(key) if key else bare.with_digest()
        head, data = made.sha256, data + made.encode() + b"\n"
    store.audit.parent.mkdir(exist_ok=True)
    store.audit.write_bytes(data)


def _another_pair(store: Store, name: str = "other") -> tuple[Path, Path]:
    pair = store.home / f"{name}.pem", store.home / f"{name}_verify.pem"
    signing.make_keys(*pair)
    return pair


def test_a_log_that_was_written_anew_with_another_key_is_refused(
    store: Store, written: list[AuditLine]
) -> None:
    mallory, _ = _another_pair(store)
    _rewrite(store, [msgspec.structs.replace(line, actor="mallory") for line in written], mallory)
    with pytest.raises(AuditBroken, match=r"Line 1 .* is signed with the key") as caught:
        read_audit_log(store)
    assert signing.key_id(store.verify_key) in caught.value.message


def test_a_line_that_names_the_key_and_bears_another_signature_is_refused(
    store: Store, written: list[AuditLine]
) -> None:
    mallory, _ = _another_pair(store)
    forged = msgspec.structs.replace(written[3], actor="mallory").signed(mallory)
    forged = msgspec.structs.replace(forged, key_id=written[3].key_id).with_digest()
    lines = store.audit.read_bytes().splitlines()[:3]
    store.audit.write_bytes(b"".join(raw + b"\n" for raw in [*lines, forged.encode()]))
    with pytest.raises(AuditBroken, match="does not bear its key's signature") as caught:
        audit.verify(store)
    assert caught.value.line == 4


def test_unsigned_lines_of_an_earlier_release_are_read(
    store: Store, written: list[AuditLine]
) -> None:
    _rewrite(store, written, None)
    assert b"signature" not in store.audit.read_bytes()
    report = audit.verify(store, signed=False)
    assert (report.lines, report.unsigned_lines, report.tip.signature) == (4, 4, None)
    # A volume of this release has a signed line after them.
    with pytest.raises(AuditBroken, match="No line") as caught:
        audit.verify(store)
    assert "upgrade" in caught.value.remedy


def test_the_first_signed_line_ends_the_unsigned_part(
    store: Store, written: list[AuditLine]
) -> None:
    _rewrite(store, written, None)
    anchored = audit.cover_unsigned_lines(store, actor="upgrade")
    assert (anchored.event, anchored.sequence) == ("log_signed", 5)
    assert anchored.details["unsigned_lines"] == 4
    assert audit.cover_unsigned_lines(store, actor="upgrade") is None
    report = audit.verify(store)
    assert (report.lines, report.unsigned_lines) == (5, 4)
    assert report.tip == anchored.tip
    unsigned = msgspec.structs.replace(
        written[0],
        sequence=6,
        previous_sha256=anchored.sha256,
        key_id=msgspec.UNSET,
        signature=msgspec.UNSET,
    ).with_digest()
    with store.audit.open("ab") as stream:
        stream.write(unsigned.encode() + b"\n")
    with pytest.raises(AuditBroken, match="is not signed") as caught:
        read_audit_log(store)
    assert caught.value.line == 6


def test_an_empty_log_needs_no_anchor(store: Store) -> None:
    assert audit.cover_unsigned_lines(store, actor="upgrade") is None
    assert not store.audit.exists()


def test_nothing_is_signed_with_a_key_that_readers_do_not_trust(
    store: Store, written: list[AuditLine]
) -> None:
    other, _ = _another_pair(store)
    store.signing_key.write_bytes(other.read_bytes())
    with pytest.raises(ConfigError, match="does not hold the public key") as caught:
        _append(store)
    assert caught.value.setting == "BC_VERIFY_KEY_FILE"
    assert read_audit_log(store).lines == written


def test_the_first_line_of_a_new_key_follows_a_line_that_says_so(
    store: Store, written: list[AuditLine]
) -> None:
    former = signing.key_id(store.verify_key)
    private, public = _another_pair(store)
    store.verify_key.write_bytes(public.read_bytes() + store.verify_key.read_bytes())
    store.signing_key.write_bytes(private.read_bytes())
    line = _append(store, "v5")
    assert (line.sequence, line.key_id) == (6, signing.key_id(private))
    changed = read_audit_log(store).lines[4]
    assert (changed.event, changed.key_id) == ("key_rotated", line.key_id)
    assert changed.details == {"key_id": line.key_id, "replaces": former}
    # Without the old public key, its lines are covered by those of the new key; without the new
    # one nothing covers them.
    store.verify_key.write_bytes(public.read_bytes())
    assert audit.verify(store).lines == 6
    lines = store.audit.read_bytes().splitlines(keepends=True)
    store.audit.write_bytes(b"".join(lines[:4]))
    with pytest.raises(AuditBroken, match=former):
        read_audit_log(store)


# Times


@pytest.mark.parametrize(("at", "found"), [("2026-11-15T05:59:59Z", True), (AT, False)])
def test_time_that_runs_backwards_is_found(
    store: Store, written: list[AuditLine], at: str, found: bool
) -> None:
    written[2] = msgspec.structs.replace(written[2], at=at)
    _rewrite(store, written, store.signing_key)
    if not found:
        assert audit.verify(store).lines == 4
        return
    with pytest.raises(AuditBroken, match=f"is of {at}") as caught:
        audit.verify(store)
    assert caught.value.line == 3


def test_a_time_that_is_none_is_found(store: Store, written: list[AuditLine]) -> None:
    written[2] = msgspec.structs.replace(written[2], at="yesterday")
    _rewrite(store, written, store.signing_key)
    with pytest.raises(AuditBroken) as caught:
        audit.verify(store)
    assert caught.value.line == 3


def test_clocks_of_machines_of_an_earlier_release_may_have_differed(
    store: Store, written: list[AuditLine]
) -> None:
    written[2] = msgspec.structs.replace(written[2], at="2026-11-14T06:00:01Z")
    _rewrite(store, written, None)
    assert audit.verify(store, signed=False).lines == 4
    written[2] = msgspec.structs.replace(written[2], at="2026-11-14T05:59:59Z")
    _rewrite(store, written, None)
    with pytest.raises(AuditBroken, match="is of 2026-11-14T05:59:59Z"):
        audit.verify(store, signed=False)


def test_a_clock_that_is_behind_writes_no_earlier_time(
    store: Store, written: list[AuditLine]
) -> None:
    line = _append(store, at="2026-11-15T05:00:00Z", details={"passed": True})
    assert line.at == AT
    assert line.details == {"passed": True, "clock": "2026-11-15T05:00:00Z"}
    assert audit.verify(store).lines == 5


# Tips


def _tip(store: Store) -> Any:
    return audit.verify(store).tip


def test_a_tip_proves_that_nothing_was_cut_off(store: Store, written: list[AuditLine]) -> None:
    tip = decode_tip(msgspec.json.encode(_tip(store)), "tip.json")
    assert (tip.sequence, tip.sha256, tip.at) == (4, written[3].sha256, AT)
    _append(store, "later")
    assert audit.verify(store, tip).lines == 5
    lines = store.audit.read_bytes().splitlines(keepends=True)
    store.audit.write_bytes(b"".join(lines[:3]))
    assert audit.verify(store).lines == 3
    with pytest.raises(AuditBroken, match="its end was cut off") as caught:
        audit.verify(store, tip)
    assert caught.value.line == 3
    store.audit.unlink()
    with pytest.raises(AuditBroken, match="its end was cut off"):
        audit.verify(store, tip)


def test_a_tip_finds_a_log_that_the_key_itself_wrote_anew(
    store: Store, written: list[AuditLine]
) -> None:
    tip = _tip(store)
    changed = [msgspec.structs.replace(line, actor="mallory") for line in written]
    _rewrite(store, changed, store.signing_key)
    assert audit.verify(store).lines == 4
    with pytest.raises(AuditBroken, match="Line 4") as caught:
        audit.verify(store, tip)
    assert caught.value.line == 4


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 3},
        {"at": "2026-11-15T06:00:01Z"},
        {"sha256": "0" * 64},
        {"problem": "rna"},
        {"signature": "00" * 64},
        {"signature": "not hexadecimal"},
        {"key_id": "0" * 16},
    ],
)
def test_a_changed_tip_is_refused_as_such(
    store: Store, written: list[AuditLine], change: dict[str, Any]
) -> None:
    with pytest.raises(SignatureInvalid):
        audit.verify(store, msgspec.structs.replace(_tip(store), **change))


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"format":2}', b"\xff"])
def test_what_is_no_tip_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"tip\.json is not a tip"):
        decode_tip(data, "tip.json")


# Distrusted keys


def test_lines_of_a_distrusted_key_decide_nothing(store: Store, written: list[AuditLine]) -> None:
    former = signing.key_id(store.verify_key)
    old = store.signing_key.read_bytes()
    private, public = _another_pair(store)
    store.verify_key.write_bytes(public.read_bytes() + store.verify_key.read_bytes())
    store.signing_key.write_bytes(private.read_bytes())
    details = {"key_id": former, "trusted_sequence": 2}
    _append(store, "", event="key_distrusted", details=details)
    log = read_audit_log(store)
    assert log.distrusted == {3, 4}
    assert [line.sequence for line in log.trusted] == [1, 2, 5]
    assert audit.verify(store).distrusted_lines == 2
    # The old key signs nothing more, even where a reader still has it.
    store.signing_key.write_bytes(old)
    with pytest.raises(ConfigError, match="is distrusted"):
        _append(store)
    forged = msgspec.structs.replace(written[0], sequence=6, previous_sha256=log.head).signed(
        store.signing_key
    )
    with store.audit.open("ab") as stream:
        stream.write(forged.encode() + b"\n")
    with pytest.raises(AuditBroken, match=f"distrusted key {former}") as caught:
        read_audit_log(store)
    assert caught.value.line == 6


def test_a_compromised_key_cannot_make_the_key_that_distrusts_it_distrusted(
    store: Store, written: list[AuditLine]
) -> None:
    former = signing.key_id(store.verify_key)
    private, public = _another_pair(store)
    new = signing.key_id(private)
    store.verify_key.write_bytes(public.read_bytes() + store.verify_key.read_bytes())
    _append(store, event="key_distrusted", details={"key_id": new, "trusted_sequence": 0})
    store.signing_key.write_bytes(private.read_bytes())
    with pytest.raises(ConfigError, match="distrusted"):
        _append(store)
    _append(store, event="key_distrusted", details={"key_id": former, "trusted_sequence": 4})
    log = read_audit_log(store)
    assert log.distrusted == {5}
    assert _append(store).sequence == 7
