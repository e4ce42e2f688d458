"""Names of files that other people choose: they may be no text, and have control characters."""

from __future__ import annotations

import os
import unicodedata

_REMEDY = "Rename the file."


def printable_name(name: str) -> str:
    r"""The name as text that can be printed and encoded: ``caf\xe9.csv`` for bytes of Latin-1."""
    decoded = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) == "Cc"
        else character
        for character in decoded
    )


def name_defect(name: str) -> str | None:
    """Why a file of this name is refused, and what to do; None where it is not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"has a name that is not UTF-8. {_REMEDY}"
    if printable_name(name) != name:
        return f"has control characters in its name. {_REMEDY}"
    return None
