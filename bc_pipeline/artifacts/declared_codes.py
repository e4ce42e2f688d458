"""The file beside a landed file that declares its label codes."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path

from bc_pipeline.artifacts.document import Document
from bc_pipeline.artifacts.files import decode_document, write_document
from bc_pipeline.artifacts.store import label_codes_path
from bc_pipeline.errors import ArtifactCorrupt, ConfigError, FileRefused
from bc_pipeline.label_codes import check_label_codes
from bc_pipeline.labels import Labels

_MAX_BYTES = 4096


class LabelCodesDocument(Document, frozen=True, kw_only=True):
    """The format of ``<file>.labels.json``.

    Attributes
    ----------
    label_codes : dict of str to str
        Name of the label of each code.
    """

    format: int = 1
    label_codes: dict[str, str]


def read_declared_codes(path: Path, labels: Labels) -> dict[str, str] | None:
    """The codes that are declared beside a landed file; None where there is no such file.

    Raises
    ------
    FileRefused
        Where the declaration cannot be read.
    """
    declaration = label_codes_path(path)
    if not declaration.is_file():
        return None
    try:
        with declaration.open("rb") as stream:
            data = stream.read(_MAX_BYTES)
        # Editors on Windows put a byte order mark first.
        data = data.removeprefix(codecs.BOM_UTF8)
        document = decode_document(data, LabelCodesDocument, declaration)
        return check_label_codes(document.label_codes, labels)
    except (OSError, ArtifactCorrupt, ConfigError):
        names = f'{{"format": 1, "label_codes": {{"0": "{labels.positive.name}", "1": "..."}}}}'
        raise FileRefused(
            f"{declaration.name} does not declare label codes.",
            f"Write it in UTF-8, as {names}.",
            source=declaration.name,
        ) from None


def write_declared_codes(path: Path, codes: Mapping[str, str]) -> None:
    """Declare the codes of a file that is about to land."""
    write_document(label_codes_path(path), LabelCodesDocument(label_codes=dict(codes)))
