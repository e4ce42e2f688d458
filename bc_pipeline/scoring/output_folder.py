"""The output folder of Spark's scores: on a shared disk, or a prefix in an object store.

On a disk the parts are written to a staging folder, which is renamed. An object store has no
rename: there the manifest is written last, and files that it does not name do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bc_pipeline.artifacts.files import (
    DIRECTORY_MODE,
    decode_document,
    encode_document,
    sha256_bytes,
    staged_directory,
)
from bc_pipeline.artifacts.signed_document import (
    UNSIGNED_REMEDY,
    make_signature,
    signature_name,
    verify_signature,
)
from bc_pipeline.artifacts.store import Store
from bc_pipeline.errors import ArtifactCorrupt, ConfigError, SignatureInvalid
from bc_pipeline.scoring.scores_manifest import MANIFEST, ScoresManifest, signed_path
from bc_pipeline.tables.locations import copy_to, file_system, is_url


def read_manifest(store: Store, url: str) -> ScoresManifest | None:
    """The manifest of complete scores at a path or URL; None where there are none.

    Raises
    ------
    SignatureInvalid
    ArtifactCorrupt
        Where a part that the manifest names is missing or of another size.
    """
    system, base = file_system(url)
    path = f"{base}/{MANIFEST}"
    if not system.get_file_info(path).is_file:
        return None
    with system.open_input_file(path) as stream:
        data = stream.read()
    sha256 = sha256_bytes(data)
    signature = f"{base}/{signature_name(MANIFEST, sha256)}"
    if not system.get_file_info(signature).is_file:
        raise SignatureInvalid(
            f"{MANIFEST} in {url} is not signed, or was changed.", UNSIGNED_REMEDY, path=url
        )
    with system.open_input_file(signature) as stream:
        verify_signature(store, signed_path(store, url), sha256, stream.read())
    manifest = decode_document(data, ScoresManifest, Path(MANIFEST))
    if missing := _missing_parts(_sizes(url), _parts(manifest)):
        raise ArtifactCorrupt(
            f"Of the parts of {url}, {missing} missing or damaged.",
            "Remove the folder, and score again.",
            path=url,
        )
    return manifest


@contextmanager
def stage(url: str) -> Iterator[str]:
    """Yield the path or URL that the parts are written to, and then `commit`.

    A staging folder is published when the block ends without an error.
    """
    if is_url(url):
        yield url
    else:
        with staged_directory(Path(url)) as path:
            # Executors run as other users of the volume's group.
            path.chmod(DIRECTORY_MODE)
            yield str(path)


def commit(
    store: Store,
    url: str,
    staged: str,
    manifest: ScoresManifest,
    keep: Collection[str] = (),
) -> None:
    """Write and sign the manifest, and delete every file that it does not name.

    Parameters
    ----------
    url : str
        Path or URL of the scores.
    staged : str
        Path or URL that `stage` gave for them.
    keep : collection of str
        Names of other files that stay.

    Raises
    ------
    ConfigError
        Where a part is missing: an executor wrote it to a disk of its own.
    """
    sizes, parts = _sizes(staged), _parts(manifest)
    if missing := _missing_parts(sizes, parts):
        raise ConfigError(
            f"Of the parts that executors wrote, {missing} missing in {staged}.",
            "Executors must write to the same disk as the driver; or let BC_SPARK_SCORES name "
            "a URL that both reach.",
            setting="BC_SPARK_SCORES",
        )
    system, base = file_system(staged)
    for name in sizes.keys() - parts.keys() - set(keep):
        system.delete_file(f"{base}/{name}")
    if not is_url(staged):
        for folder in sorted(Path(staged).rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    data = encode_document(manifest)
    name, signature = make_signature(store, signed_path(store, url), sha256_bytes(data))
    with TemporaryDirectory() as folder_name:
        for file, content in ((name, signature), (MANIFEST, data)):
            path = Path(folder_name) / file
            path.write_bytes(content)
            copy_to(path, f"{staged}/{file}")


def _sizes(url: str) -> dict[str, int]:
    """Size of each file, by its name below a path or URL."""
    from pyarrow import fs

    system, base = file_system(url)
    selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
    return {
        info.path.removeprefix(base).strip("/"): info.size
        for info in system.get_file_info(selector)
        if info.is_file
    }


def _parts(manifest: ScoresManifest) -> dict[str, int]:
    """Size of each part, by name; scores that one machine wrote have no parts."""
    reports: tuple[dict[str, Any], ...] = manifest.reports
    return {
        part["name"]: part["size"]
        for report in reports
        for part in (*report.get("parts", ()), *report.get("rejected_parts", ()))
    }


def _missing_parts(sizes: dict[str, int], parts: dict[str, int]) -> str:
    """How many parts are missing, such as ``"1 of 2 is"``; empty where none is."""
    missing = sum(sizes.get(name) != size for name, size in parts.items())
    return f"{missing} of {len(parts)} {'is' if missing == 1 else 'are'}" if missing else ""
