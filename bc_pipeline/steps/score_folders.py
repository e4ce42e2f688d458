"""Where Spark's scores appear as a whole: a folder on a shared disk, or a prefix in a store.

A disk has a rename: everything is written aside and appears at once. An object store has
none: there the manifest is written last, and what it does not name is no score.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bc_pipeline.artifacts.files import (
    DIRECTORY_MODE,
    decode_record,
    encode_record,
    read_record,
    staged_directory,
)
from bc_pipeline.errors import ArtifactCorrupt, ConfigError
from bc_pipeline.steps.batches import MANIFEST, ScoresManifest
from bc_pipeline.tables import copy_to, file_system, is_url


def open_folder(url: str) -> ScoresFolder:
    """The folder of a batch's scores, at an absolute path or a URL."""
    return _StoredFolder(url) if is_url(url) else _DiskFolder(url)


class ScoresFolder(ABC):
    """Where the scores of a batch are to stand, or do.

    Attributes
    ----------
    url : str
        Path or URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def stored(self) -> ScoresManifest | None:
        """The manifest of what stands there complete; None where nothing does.

        Raises
        ------
        ArtifactCorrupt
            Where a part that the manifest names is gone or of another size.
        """

    @abstractmethod
    def staged(self) -> Any:
        """A context with a `Staging`; what is committed in it appears when it ends well."""


class Staging(ABC):
    """Where the parts of a batch are written first.

    Attributes
    ----------
    url : str
        Path or URL.
    """

    url: str

    @abstractmethod
    def commit(self, manifest: ScoresManifest) -> None:
        """Keep what the manifest names, and drop whatever else was written.

        Raises
        ------
        ConfigError
            Where a part is not there: an executor wrote it to a disk of its own.
        """


class _DiskFolder(ScoresFolder):
    def stored(self) -> ScoresManifest | None:
        final = Path(self.url)
        if not final.exists():
            return None
        manifest = read_record(final / MANIFEST, ScoresManifest)
        _require_there(manifest, _sizes_on_disk(final), self.url)
        return manifest

    @contextmanager
    def staged(self) -> Iterator[_DiskStaging]:
        with staged_directory(Path(self.url)) as path:
            # Executors of the volume's group write there too.
            path.chmod(DIRECTORY_MODE)
            yield _DiskStaging(path)


class _DiskStaging(Staging):
    def __init__(self, path: Path) -> None:
        self.url = str(path)
        self._path = path

    def commit(self, manifest: ScoresManifest) -> None:
        sizes = _sizes_on_disk(self._path)
        wanted = _require_written(manifest, sizes, self.url)
        for name in sizes.keys() - wanted.keys():
            (self._path / name).unlink()
        for folder in sorted(self._path.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        (self._path / MANIFEST).write_bytes(encode_record(manifest))


class _StoredFolder(ScoresFolder, Staging):
    def stored(self) -> ScoresManifest | None:
        system, base = file_system(self.url)
        path = f"{base}/{MANIFEST}"
        if not system.get_file_info(path).is_file:
            return None
        with system.open_input_file(path) as stream:
            manifest = decode_record(stream.read(), ScoresManifest, Path(MANIFEST))
        _require_there(manifest, self._sizes(), self.url)
        return manifest

    @contextmanager
    def staged(self) -> Iterator[Staging]:
        yield self

    def commit(self, manifest: ScoresManifest) -> None:
        sizes = self._sizes()
        wanted = _require_written(manifest, sizes, self.url)
        system, base = file_system(self.url)
        for name in sizes.keys() - wanted.keys():
            system.delete_file(f"{base}/{name}")
        with TemporaryDirectory() as name:
            path = Path(name) / MANIFEST
            path.write_bytes(encode_record(manifest))
            copy_to(path, f"{self.url}/{MANIFEST}")

    def _sizes(self) -> dict[str, int]:
        from pyarrow import fs

        system, base = file_system(self.url)
        selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
        return {
            info.path.removeprefix(base).strip("/"): info.size
            for info in system.get_file_info(selector)
            if info.is_file
        }


def _sizes_on_disk(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }


def _parts(manifest: ScoresManifest) -> dict[str, int]:
    """Size of each file of the output, by name; those that one machine wrote are not listed."""
    reports: tuple[dict[str, Any], ...] = manifest.reports
    return {
        part["name"]: part["size"]
        for report in reports
        for part in (*report.get("parts", ()), *report.get("rejected_parts", ()))
    }


def _require_written(manifest: ScoresManifest, sizes: dict[str, int], url: str) -> dict[str, int]:
    wanted = _parts(manifest)
    missing = [name for name, size in wanted.items() if sizes.get(name) != size]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(wanted)} parts that executors wrote are not in {url}.",
            "Executors must write to the same disk as the driver; or let BC_SPARK_SCORES name "
            "a URL that both reach.",
            setting="BC_SPARK_SCORES",
        )
    return wanted


def _require_there(manifest: ScoresManifest, sizes: dict[str, int], url: str) -> None:
    wanted = _parts(manifest)
    missing = [name for name, size in wanted.items() if sizes.get(name) != size]
    if missing:
        raise ArtifactCorrupt(
            f"{len(missing)} of {len(wanted)} parts of {url} are gone or damaged.",
            "Remove the folder, and score again.",
            path=url,
        )
