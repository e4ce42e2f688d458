"""Prevent the import of an installed package."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class ImportBlocker(MetaPathFinder):
    """Reports one package as not installed.

    A None in `sys.modules` would not do: compiled modules, as those of pyarrow, take it for
    the package.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == self._name:
            raise ModuleNotFoundError(f"{name} is blocked in this process.", name=name)
        return None


def block_import(name: str) -> None:
    """Make every later import of a package fail as if it were not installed."""
    sys.meta_path.insert(0, ImportBlocker(name))
