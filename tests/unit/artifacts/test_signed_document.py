from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bc_pipeline.artifacts import signing
from bc_pipeline.artifacts.evidence import Parity
from bc_pipeline.artifacts.signed_document import (
    read_signed,
    read_signed_document,
    require_signed,
    write_signed,
    write_signed_document,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import ConfigError, NotStored, SignatureInvalid

PARITY = Parity(rows=3, worst_difference=0.25, flips=0)


@pytest.fixture
def path(store: Store) -> Path:
    write_signed_document(store, store.batch_document("a"), PARITY)
    return store.batch_document("a")


def signature_of(path: Path) -> Path:
    (found,) = path.parent.glob(f"{path.name}.*.sig")
    return found


def test_a_document_is_read_as_it_was_written(store: Store, path: Path) -> None:
    assert read_signed_document(store, path, Parity) == PARITY
    require_signed(store, path)


def test_any_changed_byte_is_refused_by_name(store: Store, path: Path) -> None:
    data = path.read_bytes()
    changed = [
        data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        for position in range(len(data))
    ]
    for other in (*changed, data + b"\n", data[:-1], b""):
        path.write_bytes(other)
        for read in (read_signed, require_signed):
            with pytest.raises(SignatureInvalid, match=r"batches/a\.json was changed"):
                read(store, path)


def test_any_changed_byte_of_a_signature_is_refused_by_name(store: Store, path: Path) -> None:
    signature = signature_of(path)
    data = signature.read_bytes()
    for position in range(0, len(data), 7):
        signature.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(SignatureInvalid, match=r"data/wdbc/batches/a\.json"):
            read_signed(store, path)


@pytest.mark.parametrize(
    "target", ["data/wdbc/batches/b.json", "data/wdbc/datasets/a.json", "data/rna/batches/a.json"]
)
def test_a_signed_document_is_not_valid_under_another_name(
    store: Store, path: Path, target: str
) -> None:
    other = store.home / target
    other.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, other)
    signature = signature_of(path)
    shutil.copy(signature, other.with_name(signature.name.replace(path.name, other.name)))
    with pytest.raises(SignatureInvalid, match=target):
        read_signed(store, other)


def test_without_a_signature_the_remedy_is_an_upgrade(store: Store, path: Path) -> None:
    signature_of(path).unlink()
    with pytest.raises(SignatureInvalid, match="is not signed") as caught:
        read_signed(store, path)
    assert "bc-pipeline upgrade" in caught.value.remedy
    with pytest.raises(SignatureInvalid) as caught:
        read_signed(store, path, "Do this.")
    assert caught.value.remedy == "Do this."


def test_another_key_signs_nothing_for_this_volume(
    store: Store, path: Path, tmp_path: Path
) -> None:
    signing.make_keys(tmp_path / "s.pem", tmp_path / "v.pem")
    other = Store(store.home, store.problem, tmp_path / "s.pem", tmp_path / "v.pem")
    write_signed(other, path, path.read_bytes())
    with pytest.raises(SignatureInvalid):
        read_signed(store, path)


def test_a_replaced_file_is_valid_before_and_after(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # After the signature, before the file.
        patch.setattr("bc_pipeline.artifacts.signed_document.write_atomic", _Once(die))
        with pytest.raises(KeyboardInterrupt):
            write_signed(store, path, b"after")
    assert read_signed(store, path) == before
    write_signed(store, path, b"after")
    assert read_signed(store, path) == b"after"


class _Once:
    """`write_atomic` for the first call, and another function for the next."""

    def __init__(self, then: object) -> None:
        from bc_pipeline.artifacts.files import write_atomic

        self.calls = [write_atomic, then]

    def __call__(self, *arguments: object) -> None:
        self.calls.pop(0)(*arguments)


def test_a_reader_that_is_overtaken_by_a_writer_reads_again(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bc_pipeline.artifacts import signed_document

    find = signed_document.find_signature

    def replace_first(target: Path, sha256: str) -> bytes | None:
        monkeypatch.setattr(signed_document, "find_signature", find)
        signature_of(path).unlink()
        write_signed(store, path, b"after")
        return find(target, sha256)

    monkeypatch.setattr(signed_document, "find_signature", replace_first)
    assert read_signed(store, path) == b"after"


def test_without_keys_nothing_is_written_or_read(tmp_path: Path, path: Path, store: Store) -> None:
    keyless = Store(store.home, "wdbc", tmp_path / "none.pem", tmp_path / "none.pem")
    with pytest.raises(ConfigError, match="BC_SIGNING_KEY_FILE"):
        write_signed(keyless, keyless.batch_document("b"), b"{}")
    assert not keyless.batch_document("b").exists()
    with pytest.raises(ConfigError):
        read_signed(keyless, path)
    with pytest.raises(NotStored):
        read_signed(store, store.batch_document("none"))
