"""Read JSON bodies into pydantic models, strictly, without repeating values of the request."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from bc_pipeline.errors import Defect
from bc_pipeline.names import is_word_of
from bc_pipeline.serving.api_model import ApiModel
from bc_pipeline.serving.request_parsing.defects import schema_mismatch
from bc_pipeline.serving.request_parsing.json_members import Members, match_members, parse_json

M = TypeVar("M", bound=ApiModel)
_MAX_UNKNOWN_LISTED = 40
_REASONS = {"missing": "is missing", "bool_type": "is neither true nor false"}
WRONG_TYPE = "is of another type than it should be"


class InvalidField(ValueError):
    """Raised by validators of models, with a reason that does not repeat the value."""


def read_model(body: bytes, kind: type[M]) -> M:
    """Read one object.

    Raises
    ------
    BodyUnreadable
        Where the body is not JSON.
    SchemaMismatch
        With a defect for every field that is unknown, missing, given twice or not valid.
    """
    model, defects = validate_object(parse_json(body), kind)
    if model is None:
        raise schema_mismatch(defects)
    return model


def validate_object(
    content: Any, kind: type[M], context: Any = None
) -> tuple[M | None, list[Defect]]:
    """The model of an object that `parse_json` returned, or its defects.

    Parameters
    ----------
    context : Any
        For the validators of the model.
    """
    if not isinstance(content, Members):
        return None, [Defect("must be a JSON object")]
    fields = kind.model_fields
    members, match = match_members(content, lambda name: name if name in fields else None)
    reason = f"is not a field; there are {', '.join(fields)}"
    words = {word for field in fields for word in field.split("_")}
    defects = [
        Defect(reason, column=name if is_word_of(name, words) else None)
        for name in match.unknown[:_MAX_UNKNOWN_LISTED]
    ]
    defects += match.repeated.values()
    model, invalid = validate_members(members, kind, context)
    defects += invalid
    return (None if defects else model), defects


def validate_members(
    members: dict[str, Any], kind: type[M], context: Any = None
) -> tuple[M | None, list[Defect]]:
    """The model of an object whose field names are known and unique, or its defects."""
    try:
        return kind.model_validate(members, context=context), []
    except ValidationError as error:
        reasons: dict[str, str] = {}
        for detail in error.errors(include_url=False, include_input=False):
            cause = detail.get("ctx", {}).get("error")
            reason = str(cause) if isinstance(cause, InvalidField) else WRONG_TYPE
            # The members of a union have a defect each; the first one is enough.
            reasons.setdefault(str(detail["loc"][0]), _REASONS.get(detail["type"], reason))
        return None, [Defect(reason, column=name) for name, reason in reasons.items()]


def unicode_text(text: str) -> str:
    """A validator: refuse lone surrogates, which JSON can escape and UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidField("is not valid Unicode") from None
    return text
