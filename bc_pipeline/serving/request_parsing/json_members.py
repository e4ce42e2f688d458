"""Parses JSON and the members of its objects, strictly.

The framework's own parsing is not used: it accepts ``"5"`` and ``true`` as numbers and the
last of two members of one name, answers NaN and lone surrogates with status 500, and repeats
the input in its errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from bc_pipeline.errors import BodyUnreadable
from bc_pipeline.names import NameMatch, match_names
from bc_pipeline.serving.request_parsing.defects import mismatch_at, schema_mismatch

# Windows programs write it in front of UTF-8.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Members(tuple[tuple[str, Any], ...]):
    """Members of a JSON object in their order in the text, repeated names included."""


def parse_json(body: bytes) -> Any:
    """Parse JSON text; numbers become floats and objects `Members`.

    NaN, Infinity and numbers beyond the range of a float become non-finite floats, so that the
    defect can name their feature.

    Raises
    ------
    BodyUnreadable
        Where the bytes are not JSON in UTF-8. The message has a position, but no content.
    """
    try:
        return json.loads(
            body.removeprefix(BYTE_ORDER_MARK).decode("utf-8"),
            object_pairs_hook=Members,
            parse_int=float,
            parse_constant=float,
        )
    except UnicodeDecodeError:
        problem = "The body is not UTF-8."
    except json.JSONDecodeError as error:
        problem = f"The body is not JSON: see line {error.lineno}, column {error.colno}."
    except RecursionError:
        problem = "The body is nested too deeply."
    raise BodyUnreadable(problem if body else "The body is empty.")


def whole_number_texts(body: bytes) -> dict[str, str]:
    """Whole numbers among the members of an object that `parse_json` can parse, as written.

    As a float, a long one would lose digits. Of repeated names the last one counts.
    """
    content = json.loads(body.removeprefix(BYTE_ORDER_MARK).decode("utf-8"), parse_int=_Token)
    members = content.items() if isinstance(content, dict) else ()
    return {name: str(value) for name, value in members if isinstance(value, _Token)}


class _Token(str):
    """A whole number as it is written."""


def match_members(
    members: Members, key_of: Callable[[Any], str | None]
) -> tuple[dict[str, Any], NameMatch]:
    """Values of an object by key, and how its names match the keys.

    Whether an unknown name is a defect is for the caller to say.
    """
    match = match_names((name for name, _ in members), key_of)
    return {key: members[position][1] for key, position in match.positions.items()}, match


def require_members(content: Any, known: Collection[str], where: str) -> Mapping[str, Any]:
    """The known members of an object; others are ignored.

    Raises
    ------
    SchemaMismatch
        Where it is no object, or repeats a known member.
    """
    if not isinstance(content, Members):
        raise mismatch_at(where, "must be a JSON object")
    values, match = match_members(content, lambda name: name if name in known else None)
    if match.repeated:
        raise schema_mismatch(list(match.repeated.values()))
    return values
