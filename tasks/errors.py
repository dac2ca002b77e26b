"""The errors of Lockstep, grouped by what to do about them.

    LockstepError                 every error with a message meant for people
    ├── TransientError            retry: throttled, timed out, restarting
    │   └── BusyError             … when the other run that works on the same index has finished
    ├── PermanentError            quarantine: this object can never be indexed as it is
    │   ├── UnsuitableError       … and was not meant to be: empty, too large, of a type that is not read
    │   └── WithheldError         … or not now: the bucket does not hand it out, which may pass
    ├── PartError                 fix the part: wrong credentials, no such bucket, a model that does not load
    │   ├── ContentError          … unless the content of one row is the cause: then its document fails
    │   └── GoneError             … or ask again: the collection was dropped meanwhile
    ├── OutageError               stop: so much of a run failed that the files are not to blame
    ├── DeletionError             check the listing, or confirm: more would be deleted than is plausible
    ├── ChangedError              start again: the pipeline now names another bucket, index or ledger
    ├── GateError                 a generation did not pass the gates of a promotion
    ├── StoppedError             nothing to do: the asker has gone
    ├── RejectedError             a person rejected a promotion, or nobody approved it in time
    ├── InconsistentError         an audit found that the index differs from the bucket
    └── MisuseError               tell the person: an unset, misspelt or contradictory setting
        ├── FingerprintError      the settings differ from those that the generation was built with
        └── SourceError           the generation holds another bucket, or belongs to another ledger

Errors of libraries are translated to these where the call is made, and the cause is kept. Only ``TransientError`` is
retried. ``PermanentError`` sends an object to quarantine. So does any other error from reading, cutting or embedding
that object alone. The command exits with 2 on ``MisuseError`` and with 1 on the others.
"""

from __future__ import annotations

from typing import Any

from tasks.sanitize import hidden, visible


class LockstepError(Exception):
    """An error whose message says what happened, where, and what to do next.

    The message may contain addresses, keys of objects and messages of libraries. Passwords and characters that control
    a terminal are removed from it.
    """

    def __init__(self, *said: Any) -> None:
        super().__init__(*(visible(hidden(one)) if isinstance(one, str) else one for one in said))


class TransientError(LockstepError):
    """A part did not answer, or asked us to wait. The same call may succeed later."""


class BusyError(TransientError):
    """Another run holds the lease that this one needs."""


class PermanentError(LockstepError):
    """An object cannot be indexed as it is. The message is the reason that quarantine keeps."""


class UnsuitableError(PermanentError):
    """An object is empty, too large or of a type that is not read. That says nothing about the health of the parts."""


class WithheldError(PermanentError):
    """The bucket does not hand out an object. The object itself may be fine, so it is retried without being asked."""


class ChangedError(LockstepError):
    """The pipeline was changed while a run waited: the run is connected to another bucket, index or ledger."""


class StoppedError(LockstepError):
    """Nobody waits for this answer any more, so it was not finished."""


class OutageError(LockstepError):
    """More than the allowed share of a run failed."""


class DeletionError(LockstepError):
    """More would be deleted than Lockstep deletes without consent. ``loss`` is a :class:`tasks.models.Loss`."""

    def __init__(self, message: str, loss: Any) -> None:
        super().__init__(message, loss)
        self.message, self.loss = message, loss

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class InconsistentError(LockstepError):
    """The index differs from the bucket. ``found`` holds the :class:`tasks.indexing.audit.Findings`."""

    def __init__(self, message: str, found: Any) -> None:
        super().__init__(message, found)
        self.message, self.found = str(self.args[0]), found

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class PartError(LockstepError):
    """A part refused the call, and will refuse it until somebody changes something."""


class ContentError(PartError):
    """Milvus refused rows because of their content."""


class GateError(LockstepError):
    """A generation did not pass its gates. ``report`` holds the :class:`tasks.evaluation.gates.GateReport`."""

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message, report)
        self.message, self.report = str(self.args[0]), report

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class RejectedError(LockstepError):
    """A person rejected a promotion or ended its canary, or nobody approved it in time."""


class GoneError(PartError):
    """A collection was dropped while it was in use. The alias points at another one by now."""


class MisuseError(LockstepError):
    """A setting or an argument is missing, misspelt or contradicts another."""


class FingerprintError(MisuseError):
    """The settings of this run differ from those that the generation was built with.

    ``collection`` is that generation, if the ledger knows what it holds.
    """

    def __init__(self, message: str, collection: str = "") -> None:
        super().__init__(message, collection)
        self.message, self.collection = message, collection

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class SourceError(MisuseError):
    """The generation holds another bucket than this run's, or belongs to another ledger."""


def is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Return whether Prefect should retry a failed task run (a ``retry_condition_fn``)."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def why(error: Exception) -> str:
    """Return why a file cannot be read. The path is left out, because the message around it names it."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
