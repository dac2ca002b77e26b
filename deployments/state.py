"""The state that `lockstep up` keeps between commands: processes, ports, and secrets of the embedded parts.

One file, ``state.json`` in the home folder, readable by its owner alone and replaced whole (a reader sees
the old one or the new one, never half of one). A process is known by its pid *and* the second it was
created in, so that a pid which the system has given to somebody else is neither counted nor signalled.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import MisuseError

Report = Callable[[str], None]


class Record(BaseModel):
    """One part that was started: its process (no ``pid`` once stopped) and the address kept for it."""

    model_config = ConfigDict(frozen=True)

    name: str
    url: str
    port: int | None = None
    pid: int | None = None
    create_time: float | None = None
    started_at: datetime | None = None


class State(BaseModel):
    """Everything that is kept: ``access_key`` and ``secret_key`` are those of the embedded S3, ``prefect_auth`` is the
    user:password of the embedded Prefect."""

    model_config = ConfigDict(frozen=True)

    access_key: str = Field(default="", repr=False)
    secret_key: str = Field(default="", repr=False)
    prefect_auth: str = Field(default="", repr=False)
    records: Mapping[str, Record] = Field(default_factory=dict)

    def url(self, name: str) -> str | None:
        """Return the address that the embedded part ``name`` has or had, None when it never ran."""
        record = self.records.get(name)
        return record.url if record else None

    def born(self, name: str) -> float:
        """Return when the process of part ``name`` was created, in seconds since 1970; 0 when it has none."""
        record = self.records.get(name)
        return (record.create_time if record else None) or 0.0

    def keeping(self, record: Record) -> State:
        """Return this state with ``record`` in place of the one of the same name."""
        return self.model_copy(update={"records": {**self.records, record.name: record}})

    def keyed(self) -> State:
        """Return this state with the secrets of the embedded parts, each made up at random the first time."""
        made = {}
        if not self.access_key:
            made = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
        if not self.prefect_auth:
            made["prefect_auth"] = f"lockstep:{secrets.token_urlsafe(24)}"
        return self.model_copy(update=made)


def load(home: Path) -> State:
    """Return the state kept in ``home``; an empty one if there is none.

    Raises MisuseError when the file cannot be read or is not one of ours.
    """
    path = home / "state.json"
    try:
        return State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return State()
    except (OSError, ValidationError) as error:
        raise MisuseError(
            f"{path} cannot be read ({type(error).__name__}). It holds which local processes were started: "
            "stop those by hand, move the file away and run `lockstep up`; the data beside it stays."
        ) from error


def save(home: Path, state: State) -> State:
    """Write ``state`` to ``home`` with mode 0600, in one step, and return it."""
    replace(home / "state.json", state.model_dump_json(indent=2))
    return state


def replace(path: Path, text: str) -> None:
    """Replace a file atomically, with mode 0600: readers see the old content or the new."""
    # mkstemp makes the file 0600, so secrets are never readable by others, not even for a moment.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)


def private(path: str, flags: int) -> int:
    """Open a file that, if it is made now, is the owner's alone whatever the umask says; for ``open(opener=…)``."""
    return os.open(path, flags, 0o600)


@contextmanager
def exclusive(home: Path, report: Report, lock: str = "lock") -> Iterator[None]:
    """Lock ``home`` against other `up` and `down` commands; waits for them and reports that.

    The lock belongs to the open file, so the system lets go of it however the command ends.
    """
    with open(home / lock, "w", opener=private) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another `lockstep up` or `lockstep down` is at work here: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
