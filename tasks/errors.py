"""The errors of Lockstep, grouped by what to do about them.

    LockstepError                 every error with a message meant for people
    ├── TransientError            try again: throttled, timed out, restarting
    │   └── BusyError             … when another run, which is at work on the same, is done
    ├── PermanentError            quarantine: this object can never be indexed as it is
    │   ├── UnsuitableError       … nor was it meant to be: empty, too large, of a type that is not read
    │   └── WithheldError         … or not now: the bucket does not hand it out, which may pass
    ├── PartError                 fix the part: wrong credentials, no such bucket, a model that does not load
    │   ├── ContentError          … unless it is what one row holds: then its document fails
    │   └── GoneError             … or ask again: the collection was dropped meanwhile
    ├── OutageError               stop: so much of a run failed that the files are not to blame
    ├── DeletionError             look first, or say yes: so much would be deleted that the listing is to be doubted
    ├── ChangedError              begin anew: the pipeline names another bucket, index or ledger by now
    ├── GateError                 a generation did not pass what it has to pass to be promoted
    ├── StoppedError              nothing: whoever asked has gone
    ├── RejectedError             a person said no to a promotion, or nobody said yes in time
    ├── InconsistentError         an audit found that the index is not what the bucket says
    └── MisuseError               tell the person: an unset, misspelt or contradictory setting
        ├── FingerprintError      the settings are not those that the generation was built with
        └── SourceError           the generation holds another bucket, or another ledger keeps it

Errors of libraries are translated to these where the call is made, with the cause kept. Only
``TransientError`` is retried. ``PermanentError`` sends an object to quarantine, and so does whatever else reading,
cutting or embedding it alone raises. The command exits
with 2 on ``MisuseError`` and with 1 on the others.
"""

from __future__ import annotations

from typing import Any

from tasks.sanitize import hidden, visible


class LockstepError(Exception):
    """An error whose message says what happened, where, and what to do next.

    Whatever it is made of (addresses, words of libraries, names of objects), it holds no password, and nothing that a
    terminal obeys.
    """

    def __init__(self, *said: Any) -> None:
        super().__init__(*(visible(hidden(one)) if isinstance(one, str) else one for one in said))


class TransientError(LockstepError):
    """A part did not answer or asked to wait; the same call may succeed later."""


class BusyError(TransientError):
    """Another run holds the lease that this one needs."""


class PermanentError(LockstepError):
    """An object cannot be indexed as it is; the message is the reason kept in quarantine."""


class UnsuitableError(PermanentError):
    """An object that was not meant to be indexed: empty, too large, or of a type that is not read."""


class WithheldError(PermanentError):
    """An object that the bucket does not hand out. The object itself is fine, so it is retried automatically."""


class ChangedError(LockstepError):
    """The pipeline was changed while a run waited: what the run is connected to is not the pipeline's any more."""


class StoppedError(LockstepError):
    """Nobody waits for this answer any more, so it was not made."""


class OutageError(LockstepError):
    """More than the allowed share of a run failed."""


class DeletionError(LockstepError):
    """A sync would delete more than the limit; ``loss`` holds the :class:`tasks.generations.deletion_limit.Loss`."""

    def __init__(self, message: str, loss: Any) -> None:
        super().__init__(message, loss)
        self.message, self.loss = message, loss

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class InconsistentError(LockstepError):
    """The index is not what the bucket says; ``found`` holds the :class:`tasks.indexing.audit.Findings`."""

    def __init__(self, message: str, found: Any) -> None:
        super().__init__(message, found)
        self.message, self.found = str(self.args[0]), found

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class PartError(LockstepError):
    """A part refused the call, and will refuse it until somebody changes something."""


class ContentError(PartError):
    """Milvus refused rows for what they hold."""


class GateError(LockstepError):
    """A generation is not as good as it has to be; ``report`` holds the :class:`tasks.evaluation.gates.GateReport`."""

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message, report)
        self.message, self.report = str(self.args[0]), report

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class RejectedError(LockstepError):
    """A person did not let a generation be promoted, or ended its canary."""


class GoneError(PartError):
    """A collection was dropped while it was used: behind the alias is another one by now."""


class MisuseError(LockstepError):
    """A setting or an argument is missing, misspelt or contradicts another."""


class FingerprintError(MisuseError):
    """The settings of this run differ from those that the generation was built with.

    ``collection`` is that generation, when the ledger knows what it holds.
    """

    def __init__(self, message: str, collection: str = "") -> None:
        super().__init__(message, collection)
        self.message, self.collection = message, collection

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class SourceError(MisuseError):
    """The bucket of this run is not the one that the generation holds, or its ledger is not the one that keeps it."""


def is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Return whether Prefect should retry a failed task run (a ``retry_condition_fn``)."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def why(error: Exception) -> str:
    """Return the reason of an error without the file's path, which the surrounding message names."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
