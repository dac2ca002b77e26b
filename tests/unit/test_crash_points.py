"""Every place where a process may die between two effects is marked, once: it is killed there in tests/faults."""

from __future__ import annotations

from pathlib import Path

from tasks.crash_points import CRASH_POINTS

ROOT = Path(__file__).parents[2]


def test_every_place_is_marked_where_it_lies() -> None:
    marked = "".join(path.read_text() for path in (ROOT / "tasks").rglob("*.py") if path.name != "crash_points.py")
    assert {place: marked.count(f'crash_point("{place}")') for place in CRASH_POINTS} == dict.fromkeys(CRASH_POINTS, 1)
