"""Check the ledger, and read its canary, without the second that its own modules take to load."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from deployments.endpoints import Endpoints
from deployments.local.health import SECONDS, short
from deployments.local.processes import running
from deployments.state import State
from tasks.errors import PartError


def check_ledger(endpoints: Endpoints, _state: State) -> str:
    """Open the database and query one row. A SQLite file that does not exist yet counts as healthy."""
    return "created on first use" if _ask_ledger(endpoints, "select 1") is None else ""


BEGINS_SECONDS = 180.0
"""How long a watcher may take to begin: it waits for the pipeline to be saved, and syncs what changed meanwhile."""
WATCH = "select described, expires_at from lockstep_writers where collection = :name"
LAG = """
select count(*), min(since) from (
  select since from lockstep_changes where alias = :alias
  union all
  select coalesce(known_at, updated_at) as since from lockstep_objects
  where state in ('pending', 'deleting', 'returned') and collection in (
    select collection from lockstep_generations
    where alias = :alias and promoted_at is not null and retired_at is null
  )
) as waiting
"""


def check_watcher(endpoints: Endpoints, state: State) -> str:
    """Ask the ledger who watches the bucket, and how far the index is behind. Another home's watcher may be first."""
    record = state.records.get("watcher")
    if record is None or running(record) is None:
        raise PartError("its process is gone: run `lockstep up`")
    now = int(time.time() * 1000)
    try:
        rows = _ask_ledger(endpoints, WATCH, name=f"the watch of '{endpoints.alias}'")
    except PartError:
        _ask_ledger(endpoints, "select 1")  # raises if the ledger is away; else it has no tables yet
        rows = None
    watching, until = rows[0] if rows else ("", 0)
    if not watching.startswith(f"the watcher {record.pid} "):
        if until > now:
            return f"stands by: {watching} watches"
        if time.time() - state.born("watcher") < BEGINS_SECONDS:
            return "begins to watch"
        raise PartError("it does not watch: see its log")
    waiting, since = (_ask_ledger(endpoints, LAG, alias=endpoints.alias) or [(0, None)])[0]
    if not waiting:
        return "nothing waits"
    return f"{waiting:,} change{'s' * (waiting != 1)} wait, for {max(now - since, 0) / 1000:.0f} s"


CANARY = "select collection, live, steps, step, hold_seconds, since from lockstep_canaries where alias = :alias"


def canary(endpoints: Endpoints, alias: str) -> dict[str, Any] | None:
    """Return the canary of an alias: collection, live, share, step, steps, since, until (in ms).

    None without a canary, or if the ledger does not answer or has no tables yet.
    """
    try:
        rows = _ask_ledger(endpoints, CANARY, alias=alias)
    except PartError:
        return None
    if not rows:
        return None
    collection, live, steps, step, hold_seconds, since = rows[0]
    steps = json.loads(steps) if isinstance(steps, str) else steps
    until = since + int(1000 * hold_seconds)
    return {
        "collection": collection, "live": live, "steps": steps, "since": since,
        "share": steps[step], "step": step + 1, "until": until,
    }  # fmt: skip


def _ask_ledger(endpoints: Endpoints, query: str, **values: str | int) -> list[Any] | None:
    """Return the rows of a query to the ledger. None for a missing SQLite file, which is not created.

    A file of SQLite is read by Python's own module: importing SQLAlchemy takes longer than all the checks.
    """
    url = endpoints.ledger_url.get_secret_value()
    scheme, _, path = url.partition(":///")
    if scheme.startswith("sqlite") and "?" not in path and not path.startswith("file:"):
        return _ask_file(Path(path), query, values)
    from sqlalchemy import create_engine, event, make_url, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
            return None
        engine = create_engine(parsed)
        if parsed.get_backend_name() == "postgresql":
            from blocks.postgres import connect_in_time

            event.listen(engine, "do_connect", connect_in_time(SECONDS))
        with engine.connect() as connection:
            return list(connection.execute(text(query), values))
    except (SQLAlchemyError, ImportError) as error:
        raise PartError(short(error)) from error


def _ask_file(path: Path, query: str, values: dict[str, str | int]) -> list[Any] | None:
    import sqlite3

    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path, timeout=SECONDS)) as connection:
            connection.execute("pragma schema_version")  # "select 1" would not read the file
            return connection.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise PartError(short(error)) from error
