"""What a shell completes: names on the volume, read from its folders and nothing else.

It runs at every press of the key, so neither settings nor libraries are loaded where ``BC_HOME``
is set, and whatever is wrong with the volume completes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import typer

from bc_pipeline.artifacts.store import Store
from bc_pipeline.artifacts.version_names import (
    digest_of,
    list_names,
    matching_names,
    shorten_names,
)
from bc_pipeline.problems import DEFAULT_PROBLEM


def _store(context: typer.Context) -> Store:
    home = os.environ.get("BC_HOME")
    if not home:
        from bc_pipeline.cli.caller import load_settings

        home = str(load_settings().home)
    problem = context.params.get("problem") or DEFAULT_PROBLEM
    return Store(Path(home).expanduser(), problem)


def _or_nothing(
    complete: Callable[[Store, str], list[str]],
) -> Callable[[typer.Context, str], list[str]]:
    def completed(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return complete(_store(ctx), incomplete)
        except Exception:
            # A traceback would be written into the line that is typed.
            return []

    return completed


@_or_nothing
def complete_version(store: Store, incomplete: str) -> list[str]:
    """Full names, the newest first; short ones where a digest is being typed."""
    names = list_names(store)
    full = [name for name in reversed(names) if name.startswith(incomplete)]
    if full:
        return full
    short = shorten_names(names)
    # A shell drops what does not start with the text that is being typed.
    return [
        short[name] if short[name].startswith(incomplete) else digest_of(name)
        for name in matching_names(names, incomplete)
    ]


@_or_nothing
def complete_batch(store: Store, incomplete: str) -> list[str]:
    return _documents(store.batches, incomplete)


@_or_nothing
def complete_dataset(store: Store, incomplete: str) -> list[str]:
    return _documents(store.datasets, incomplete)


@_or_nothing
def complete_problem(store: Store, incomplete: str) -> list[str]:
    names = {DEFAULT_PROBLEM, *(path.name for path in store.models.parent.glob("[!.]*"))}
    return sorted(name for name in names if name.startswith(incomplete))


def _documents(folder: Path, incomplete: str) -> list[str]:
    stems = (path.stem for path in folder.glob("[!.]*.json"))
    return sorted(stem for stem in stems if stem.startswith(incomplete))
