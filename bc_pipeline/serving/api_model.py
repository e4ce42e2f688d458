"""Base of the pydantic models that requests are read into and responses are made from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ApiModel(BaseModel):
    """Immutable; takes no values of other types and no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
