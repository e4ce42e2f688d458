"""Files by path or by URL: a shared disk, S3, Google's or Azure's storage, HDFS.

Credentials come from the machine (environment, instance or workload identity) of the process
that reads or writes; URLs carry none.
"""

from __future__ import annotations

import os
import posixpath
import re
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias
from uuid import uuid4

from bc_pipeline.errors import ConfigError

TABLE_SUFFIXES = (".csv", ".parquet")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Spark's and Hadoop's names of the same schemes.
_SCHEMES = {"s3a://": "s3://", "s3n://": "s3://", "wasbs://": "abfss://", "wasb://": "abfs://"}
_WILD = re.compile(r"[*?\[]")
_COPY_BYTES = 1 << 22
# File systems on which a file's folder must exist; object stores have no folders.
_FOLDERS = {"local", "hdfs"}


@dataclass(frozen=True)
class FileLocation:
    """A file by its path or URL.

    Attributes
    ----------
    url : str
        An absolute path, or a URL that pyarrow's file systems know.
    name : str
        Its name in messages and manifests.
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


Openable: TypeAlias = Path | FileLocation
"""A file that a table can be read from."""


@dataclass(frozen=True)
class ListedFile:
    """A file in a listing.

    Attributes
    ----------
    size : int
        In bytes.
    modified : float
        Seconds since 1970; 0 where the store does not report it.
    """

    location: FileLocation
    size: int
    modified: float


def is_url(source: str) -> bool:
    """Whether a source is a URL, ``file://`` included, and not a path."""
    return bool(_URL.match(source))


def file_system(url: str) -> tuple[Any, str]:
    """Pyarrow's file system of a URL or absolute path, and the path on it.

    Raises
    ------
    ConfigError
        Where the scheme is unknown, or its file system does not start.
    """
    import pyarrow as pa
    from pyarrow import fs

    for alias, scheme in _SCHEMES.items():
        if url.startswith(alias):
            url = scheme + url.removeprefix(alias)
    try:
        system, path = fs.FileSystem.from_uri(url)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ConfigError(
            f"{url.split('?')[0]} cannot be reached: {error}.",
            "Name an absolute path, or a URL of s3://, gs://, abfss:// or hdfs://.",
            setting="source",
        ) from None
    return system, path


def find_tables(source: str) -> list[ListedFile]:
    """CSV and Parquet files at a path or URL: one file, those of a folder, or a pattern's.

    A folder's files are those directly in it, without names that start with a dot or an
    underscore. A pattern may use ``*``, ``?`` and ``[...]``, each within one part of the
    path. A single file may have any name.

    Returns
    -------
    list of ListedFile
        Sorted by name, which is the path below the folder that all files share and so unique.
    """
    list_files = _list_url if is_url(source) else _list_path
    if _WILD.search(source):
        start, _, _ = _WILD.split(source, maxsplit=1)[0].rpartition("/")
        # Absolute paths and patterns must match as a whole, part by part.
        pattern = "/" + source.removeprefix(start).strip("/")
    else:
        start, pattern = source, "/*"
    listed = list_files(start or "/", "/" in pattern[1:])
    if "" in listed and start == source:
        return [ListedFile(FileLocation(source, PurePosixPath(source).name), *listed[""])]
    matching = sorted(
        path for path in listed if _is_table(path) and PurePosixPath(f"/{path}").match(pattern)
    )
    shared = posixpath.commonpath([posixpath.dirname(path) for path in matching] or [""])
    return [
        ListedFile(
            FileLocation(f"{start.rstrip('/')}/{path}", path.removeprefix(shared).strip("/")),
            *listed[path],
        )
        for path in matching
    ]


def _list_path(base: str, recursive: bool) -> dict[str, tuple[int, float]]:
    """Size and time of the files in a folder, by path below it; of a file, by an empty path.

    Pyarrow lists no folder that has one name that is not UTF-8.
    """
    if not os.path.isdir(base):
        return {"": _size_and_time(base)} if os.path.isfile(base) else {}
    listed = {}
    for folder, folders, names in os.walk(base, followlinks=True):
        # Two links to each other would be followed without end.
        folders[:] = [name for name in folders if recursive and not _contains(folder, name)]
        for path in (os.path.join(folder, name) for name in names):
            # Also pipes, devices and links to nothing, which their reader refuses by name. A file
            # may be removed meanwhile.
            with suppress(FileNotFoundError):
                listed[os.path.relpath(path, base)] = _size_and_time(path)
    return listed


def _contains(folder: str, name: str) -> bool:
    """Whether the folder of that name in a folder is one that the latter is in."""
    inner = os.path.realpath(os.path.join(folder, name))
    return os.path.commonpath([inner, os.path.realpath(folder)]) == inner


def _size_and_time(path: str) -> tuple[int, float]:
    status = os.stat(path) if os.path.exists(path) else os.lstat(path)
    return status.st_size, status.st_mtime


def _list_url(base: str, recursive: bool) -> dict[str, tuple[int, float]]:
    """As `_list_path`, for a URL."""
    from pyarrow import fs

    system, path = file_system(base)
    info = system.get_file_info(path)
    if info.type == fs.FileType.File:
        return {"": _size_and_time_of(info)}
    selector = fs.FileSelector(path, recursive=recursive, allow_not_found=True)
    try:
        entries = system.get_file_info(selector)
    except UnicodeDecodeError:
        raise ConfigError(
            f"{base.split('?')[0]} has a file whose name is not UTF-8.",
            "Rename it, or name a path instead of a URL.",
            setting="source",
        ) from None
    return {
        info.path.removeprefix(path).strip("/"): _size_and_time_of(info)
        for info in entries
        if info.is_file
    }


def _size_and_time_of(info: Any) -> tuple[int, float]:
    return info.size, info.mtime_ns / 1e9 if info.mtime_ns else 0.0


def copy_to(path: Path, url: str) -> None:
    """Copy a local file to a path or URL, where it appears as a whole or not at all."""
    # An object appears when its stream is closed, a file at once: a file is renamed at the end.
    target = url if is_url(url) else str(Path(url).with_name(f".{uuid4().hex}"))
    system, target_path = file_system(target)
    if system.type_name in _FOLDERS:
        system.create_dir(str(PurePosixPath(target_path).parent), recursive=True)
    with path.open("rb") as source, system.open_output_stream(target_path) as sink:
        while piece := source.read(_COPY_BYTES):
            sink.write(piece)
    if target != url:
        Path(target).replace(url)


def _is_table(path: str) -> bool:
    name = PurePosixPath(path).name
    return name[:1] not in ("", ".", "_") and name.lower().endswith(TABLE_SUFFIXES)
