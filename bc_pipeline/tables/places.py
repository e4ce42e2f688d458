"""Files by path or by URL: a shared disk, S3, Google's or Azure's storage, HDFS.

Every process that reads or writes through here finds its credentials where its machine keeps
them (environment, instance or workload identity); none travel with a URL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import uuid4

from bc_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from io import BufferedReader

_SUFFIXES = (".csv", ".parquet")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Spark's and Hadoop's names for the same stores.
_SCHEMES = {"s3a://": "s3://", "s3n://": "s3://", "wasbs://": "abfss://", "wasb://": "abfs://"}
_WILD = re.compile(r"[*?\[]")
_COPY_BYTES = 1 << 22
# File systems on which a file needs its folder; object stores have none.
_FOLDERS = {"local", "hdfs"}


class Openable(Protocol):
    """What a table can be read from; a `Path` is one."""

    @property
    def name(self) -> str: ...

    @property
    def suffix(self) -> str: ...

    def open(self, mode: Literal["rb"]) -> BufferedReader: ...


@dataclass(frozen=True)
class Place:
    """A file by its path or URL.

    Attributes
    ----------
    url : str
        An absolute path, or a URL that pyarrow's file systems know.
    name : str
        What messages and manifests call it.
    """

    url: str
    name: str

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def open(self, mode: Literal["rb"]) -> BufferedReader:
        """Open for reading, with seeking."""
        if not is_url(self.url):
            return Path(self.url).open(mode)
        system, path = file_system(self.url)
        opened: BufferedReader = system.open_input_file(path)
        return opened


@dataclass(frozen=True)
class Found:
    """A file that a listing gave.

    Attributes
    ----------
    size : int
        In bytes.
    modified : float
        Seconds since 1970; 0 where the store does not say.
    """

    place: Place
    size: int
    modified: float


def is_url(source: str) -> bool:
    """Whether a source is a URL, ``file://`` included, and not a path."""
    return bool(_URL.match(source))


def is_pattern(source: str) -> bool:
    """Whether a source names files by a pattern."""
    return bool(_WILD.search(source))


def file_system(url: str) -> tuple[Any, str]:
    """Pyarrow's file system of a URL or absolute path, and the path on it.

    Raises
    ------
    ConfigError
        Where no file system is known by that scheme, or it does not start.
    """
    import pyarrow as pa
    from pyarrow import fs

    for alias, known in _SCHEMES.items():
        if url.startswith(alias):
            url = known + url.removeprefix(alias)
    try:
        system, path = fs.FileSystem.from_uri(url)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ConfigError(
            f"{url.split('?')[0]} cannot be reached: {error}.",
            "Name an absolute path, or a URL of s3://, gs://, abfss:// or hdfs://.",
            setting="source",
        ) from None
    return system, path


def find_tables(source: str) -> list[Found]:
    """CSV and Parquet files at a path or URL: one file, those of a folder, or a pattern's.

    A folder's files are those directly in it; names that start with a dot or an underscore
    are of no account there. A pattern takes ``*``, ``?`` and ``[...]``, each within one
    part of the path. A file that is named outright is taken whatever its name.

    Returns
    -------
    list of Found
        By name. A name is the path below what all of them share, so that no two are alike.
    """
    from pyarrow import fs

    if is_pattern(source):
        start, _, _ = _WILD.split(source, maxsplit=1)[0].rpartition("/")
        system, base = file_system(start or "/")
        depth = source.removeprefix(start).strip("/")
        wanted = _pattern(depth)
        selector = fs.FileSelector(base, recursive="/" in depth, allow_not_found=True)
        infos = [
            info
            for info in system.get_file_info(selector)
            if wanted.fullmatch(info.path.removeprefix(base).strip("/")) and _counts(info)
        ]
    else:
        start, base = source, ""
        system, base = file_system(source)
        info = system.get_file_info(base)
        if info.type == fs.FileType.File:
            name = PurePosixPath(base).name
            return [Found(Place(source, name), info.size, _modified(info))]
        selector = fs.FileSelector(base, allow_not_found=True)
        infos = [info for info in system.get_file_info(selector) if _counts(info)]
    names = _names([info.path for info in infos])
    return sorted(
        (
            Found(
                Place(f"{start.rstrip('/')}/{info.path.removeprefix(base).strip('/')}", name),
                info.size,
                _modified(info),
            )
            for info, name in zip(infos, names, strict=True)
        ),
        key=lambda found: found.place.name,
    )


def copy_to(path: Path, url: str) -> None:
    """Put a local file at a path or URL; there it is whole, or not there."""
    # An object appears when its stream is closed, a file at once: that is renamed.
    target = url if is_url(url) else str(Path(url).with_name(f".{uuid4().hex}"))
    system, place = file_system(target)
    if system.type_name in _FOLDERS:
        system.create_dir(str(PurePosixPath(place).parent), recursive=True)
    with path.open("rb") as source, system.open_output_stream(place) as sink:
        while piece := source.read(_COPY_BYTES):
            sink.write(piece)
    if target != url:
        Path(target).replace(url)


def _pattern(words: str) -> re.Pattern[str]:
    """A pattern of a path, no mark of which stands for a slash."""
    marks = {"*": "[^/]*", "?": "[^/]"}
    parts = re.findall(r"\[[^\]/]+\]|.", words)
    return re.compile(
        "".join(
            part.replace("[!", "[^") if len(part) > 1 else marks.get(part, re.escape(part))
            for part in parts
        )
    )


def _counts(info: Any) -> bool:
    name = PurePosixPath(info.path).name
    return bool(info.is_file and name[0] not in "._" and name.lower().endswith(_SUFFIXES))


def _modified(info: Any) -> float:
    return info.mtime_ns / 1e9 if info.mtime_ns else 0.0


def _names(paths: Sequence[str]) -> list[str]:
    """Each path below the folder that all of them share."""
    parts = [PurePosixPath(path).parts for path in paths]
    shared = 0
    while parts and len({each[:shared] for each in parts}) == 1 and shared < min(map(len, parts)):
        shared += 1
    return ["/".join(each[max(shared - 1, 0) :]) for each in parts]
