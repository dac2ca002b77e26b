"""The state of `lockstep up` between commands: its processes, their ports, the secrets of the embedded parts.

It is one file, ``state.json`` in the home folder, that only its owner can read. It is replaced atomically, so a reader
sees the old file or the new one, never a part. A process is identified by its pid *and* its creation time. A pid that
the system has given to another process is neither counted nor signalled.
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
    """One part that was started: its process (no ``pid`` once stopped) and its address.

    ``prefect`` is the address of the Prefect API that it uses, if any.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    url: str
    port: int | None = None
    pid: int | None = None
    create_time: float | None = None
    started_at: datetime | None = None
    prefect: str = ""


class State(BaseModel):
    """The whole state. ``access_key`` and ``secret_key`` belong to the embedded S3.

    ``prefect_auth`` is the user:password of the embedded Prefect. ``service_key`` lets this home's commands ask the
    service without a key of the ledger.
    """

    model_config = ConfigDict(frozen=True)

    access_key: str = Field(default="", repr=False)
    secret_key: str = Field(default="", repr=False)
    prefect_auth: str = Field(default="", repr=False)
    service_key: str = Field(default="", repr=False)
    records: Mapping[str, Record] = Field(default_factory=dict)

    def url(self, name: str) -> str | None:
        """Return the current or last address of the embedded part ``name``; None if it never ran."""
        record = self.records.get(name)
        return record.url if record else None

    def born(self, name: str) -> float:
        """Return the creation time of the process of part ``name``, in seconds since 1970; 0 without a process."""
        record = self.records.get(name)
        return (record.create_time if record else None) or 0.0

    def keeping(self, record: Record) -> State:
        """Return this state with ``record`` in place of the record with the same name."""
        return self.model_copy(update={"records": {**self.records, record.name: record}})

    def keyed(self) -> State:
        """Return this state with the secrets of the embedded parts. Missing secrets are generated at random."""
        made = {}
        if not self.access_key:
            made = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
        if not self.prefect_auth:
            made["prefect_auth"] = f"lockstep:{secrets.token_urlsafe(24)}"
        if not self.service_key:
            made["service_key"] = secrets.token_urlsafe(32)
        return self.model_copy(update=made)


def load(home: Path) -> State:
    """Return the state saved in ``home``; an empty state if there is none.

    Raises MisuseError when the file cannot be read or is malformed.
    """
    path = home / "state.json"
    try:
        return State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return State()
    except (OSError, ValidationError) as error:
        raise MisuseError(
            f"{path} cannot be read ({type(error).__name__}). It lists the local processes that were started. "
            "Stop them by hand, move the file away and run `lockstep up`. The data beside it stays."
        ) from error


def save(home: Path, state: State) -> State:
    """Write ``state`` to ``home`` atomically, with mode 0600, and return it."""
    replace(home / "state.json", state.model_dump_json(indent=2))
    return state


def replace(path: Path, text: str) -> None:
    """Replace a file with ``text`` atomically, with mode 0600: readers see the old file or the new one."""
    # mkstemp creates the file with mode 0600, so that others can never read the secrets, not even for a moment.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)


def private(path: str, flags: int) -> int:
    """Open a file for ``open(opener=…)``. A new file gets mode 0600, whatever the umask is."""
    return os.open(path, flags, 0o600)


@contextmanager
def exclusive(home: Path, report: Report, lock: str = "lock") -> Iterator[None]:
    """Lock ``home`` against other `up` and `down` commands. If it is locked, report that and wait.

    The lock belongs to the open file, so the system releases it however the command ends.
    """
    with open(home / lock, "w", opener=private) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another `lockstep up` or `lockstep down` is running here: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
