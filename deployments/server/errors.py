"""Errors of the service, and how each is told: one envelope, which OpenAI's clients know.

    {"error": {"message": …, "type": …, "param": …, "code": …, "request_id": …}}

A message says which part failed and what to do; it holds no password (see tasks.errors).
"""

from __future__ import annotations

from typing import Any

from tasks.errors import LockstepError, MisuseError, SourceError, StoppedError, TransientError


class NoPipelineError(MisuseError):
    """No pipeline of that name is saved."""

    @classmethod
    def of(cls, name: str) -> NoPipelineError:
        """Return the error for a pipeline's name, with what to do."""
        return cls(
            f"there is no pipeline '{name}'. GET /v1/models lists the pipelines; `lockstep up` saves the one that its "
            "environment describes"
        )


class OverloadedError(TransientError):
    """More questions wait than are worth waiting for."""


class RequestError(LockstepError):
    """A request that cannot be answered as it is; ``status`` and ``code`` say why to machines.

    ``headers`` replace those that answers of this status have.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        code: str = "invalid_request",
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, headers


RETRY_AFTER_SECONDS = 1
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    499: "client_closed_request",
}


TOLD: tuple[tuple[type[Exception], int, str, str | None], ...] = (
    (NoPipelineError, 404, "pipeline_not_found", "pipeline"),
    (OverloadedError, 429, "overloaded", None),
    (SourceError, 409, "other_source", None),
    (MisuseError, 400, "invalid_request", None),
    (StoppedError, 499, "stopped", None),
    (TransientError, 503, "part_unavailable", None),
    (LockstepError, 502, "part_refused", None),
)
"""Status, code and parameter of each kind of error; the first kind that fits counts."""


def told(error: Exception) -> tuple[int, str, str | None]:
    """Return how an error is told: its status, its code, and which parameter it is about."""
    if isinstance(error, RequestError):
        return error.status, error.code, error.param
    for kind, status, code, param in TOLD:
        if isinstance(error, kind):
            return status, code, param
    return 500, "internal_error", None


def envelope(status: int, code: str, message: str, request_id: str, param: str | None = None) -> dict[str, Any]:
    """Return the body of an error."""
    kind = KINDS.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code, "request_id": request_id}}


def headers_of(status: int) -> dict[str, str]:
    """Return what tells clients whether to come again, and when."""
    if status in (429, 503):
        return {"retry-after": str(RETRY_AFTER_SECONDS)}
    if status == 401:
        return {"www-authenticate": 'Bearer realm="lockstep"', "x-should-retry": "false"}
    return {"x-should-retry": "false"} if status < 500 else {}
