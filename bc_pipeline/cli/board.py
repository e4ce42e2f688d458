"""What goes on right now: processes or tasks, and how each of them is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from bc_pipeline.cli import output

_MARKS = {
    "success": ("green", "✔"),
    "failed": ("red", "✘"),
    "upstream_failed": ("red", "✘"),
    "skipped": ("dim", "○"),
    "running": ("cyan", "▶"),
    "deferred": ("cyan", "▶"),
    "ready": ("green", "✔"),
    "done": ("green", "✔"),
    "starting": ("cyan", "▶"),
    "backoff": ("red", "✘"),
}


class Board:
    """Live lines on a terminal; elsewhere one line for each change."""

    def __init__(self, live: Live | None) -> None:
        self._live = live
        self._said: set[tuple[str, str]] = set()

    def show(self, title: str, lines: dict[str, str]) -> None:
        if self._live is not None:
            self._live.update(Group(Text(title, "bold"), *(_line(*item) for item in lines.items())))
            return
        for name, phase in lines.items():
            if phase in _MARKS and (name, phase) not in self._said:
                self._said.add((name, phase))
                output.say(f"{name}: {phase}")


def _line(name: str, phase: str) -> Text:
    style, mark = _MARKS.get(phase, ("dim", "·"))
    return Text(f"  {mark} {name}  {phase}", style)


@contextmanager
def board() -> Iterator[Board]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Board(None)
        return
    with Live(console=console, refresh_per_second=8) as live:
        yield Board(live)


def task_lines(tasks: list[dict[str, Any]]) -> dict[str, str]:
    """What a board shows of a run's tasks, in the order in which they start.

    A mapped task has a number until it starts, and a name from then on: shown once.
    """
    named = [task for task in tasks if not (task["rendered_map_index"] or "").isdigit()]
    ordered = sorted(named, key=lambda task: (task["start_date"] or "9", task["task_id"]))
    return {_task_name(task): task["state"] or "waiting" for task in ordered}


def _task_name(task: dict[str, Any]) -> str:
    index = task["rendered_map_index"]
    return f"{task['task_id']} [{index}]" if index else str(task["task_id"])
