from __future__ import annotations

from pathlib import Path

import pytest

from bc_pipeline.errors import ConfigError, KeyRefused
from bc_pipeline.serving.auth import ApiKey

KEY = "0123456789abcdef-key"


@pytest.fixture
def key(tmp_path: Path) -> ApiKey:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    return ApiKey.read(path)


@pytest.mark.parametrize(
    ("api_key", "authorization"),
    [
        (KEY, None),
        (None, f"Bearer {KEY}"),
        (None, f"bearer  {KEY} "),
        (KEY, "Basic abc"),
    ],
)
def test_the_key_is_taken_from_either_header(
    key: ApiKey, api_key: str | None, authorization: str | None
) -> None:
    key.check(api_key, authorization)


@pytest.mark.parametrize(
    ("api_key", "authorization"),
    [
        (None, None),
        ("", None),
        (KEY + "x", None),
        (KEY[:-1], None),
        (None, KEY),
        (None, "Bearer"),
        (None, f"Basic {KEY}"),
        ("wrong", f"Bearer {KEY}"),
        ("\xff\xfe", None),
    ],
)
def test_anything_else_is_refused(
    key: ApiKey, api_key: str | None, authorization: str | None
) -> None:
    with pytest.raises(KeyRefused) as refused:
        key.check(api_key, authorization)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"two words of the file", b"\xff" * 40])
def test_a_file_without_a_usable_key_names_the_setting(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        ApiKey.read(path)
    assert refused.value.setting == "BC_API_KEY_FILE"


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="BC_API_KEY_FILE"):
        ApiKey.read(tmp_path / "none")


def test_the_key_itself_is_not_kept(key: ApiKey) -> None:
    assert KEY not in repr(key)
