"""Live display of the states of processes or tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bc_pipeline.cli import output

if TYPE_CHECKING:
    from rich.text import Text

    from bc_pipeline.settings import Settings

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


@contextmanager
def live_status() -> Iterator[Callable[[str, dict[str, str]], None]]:
    """Yield ``update(title, states)``, with the state of each name.

    On a terminal the lines are redrawn; elsewhere one line is printed for each change.
    """
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    console = output.console(stderr=True)
    printed: set[tuple[str, str]] = set()

    def redraw(title: str, states: dict[str, str]) -> None:
        live.update(Group(Text(title, "bold"), *(_line(*item) for item in states.items())))

    def print_changes(_: str, states: dict[str, str]) -> None:
        for name, state in states.items():
            if state in _MARKS and (name, state) not in printed:
                printed.add((name, state))
                output.say(f"{name}: {state}")

    if sys.stderr.isatty():
        with Live(console=console, refresh_per_second=8) as live:
            yield redraw
    else:
        yield print_changes


def _line(name: str, state: str) -> Text:
    from rich.text import Text

    style, mark = _MARKS.get(state, ("dim", "·"))
    return Text(f"  {mark} {name}  {state}", style)


def show_first_cycle(settings: Settings) -> dict[str, Any]:
    """Run the first cycle, and show the states of its tasks meanwhile."""
    from bc_pipeline.stack.first_cycle import run_first_cycle

    with live_status() as update:
        return run_first_cycle(
            settings,
            output.say,
            lambda dag_id, state, tasks: update(f"{dag_id}: {state}", _task_states(tasks)),
        )


def _task_states(tasks: list[dict[str, Any]]) -> dict[str, str]:
    """Names and states of a run's tasks, in the order in which they start.

    A mapped task has a number until it starts and a name afterwards; it is left out until then.
    """
    named = [task for task in tasks if not (task["rendered_map_index"] or "").isdigit()]
    ordered = sorted(named, key=lambda task: (task["start_date"] or "9", task["task_id"]))
    return {_task_name(task): task["state"] or "waiting" for task in ordered}


def _task_name(task: dict[str, Any]) -> str:
    index = task["rendered_map_index"]
    return f"{task['task_id']} [{index}]" if index else str(task["task_id"])
