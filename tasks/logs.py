"""Remove passwords and terminal control characters from every line that this process logs."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from tasks.sanitize import hidden, visible


def clean_logs() -> None:
    """Remove passwords and terminal control characters from all log records from now on. Idempotent.

    Prefect logs an error with all its causes. Those hold messages of libraries, which quote whole addresses.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "cleans", False):
        return

    def cleaned(*args: Any, **extra: Any) -> logging.LogRecord:
        record = make(*args, **extra)
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - logging itself reports a line that cannot be formatted
            return record
        if (said := _clean(message)) != message:
            record.msg, record.args = said, None
        if record.exc_info and record.exc_info[0]:
            record.exc_text = _clean("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return record

    cleaned.cleans = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(cleaned)


def _clean(text: str) -> str:
    return visible(hidden(text))
