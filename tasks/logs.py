"""Keep passwords and terminal control characters out of this process' log."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from tasks.sanitize import hidden, visible


def clean_logs() -> None:
    """From now on, let whatever is logged hold no password and nothing that a terminal obeys; twice is as once.

    Prefect logs an error with all its causes, and those have the words of libraries, which name addresses whole.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "cleans", False):
        return

    def cleaned(*args: Any, **extra: Any) -> logging.LogRecord:
        record = make(*args, **extra)
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a line that cannot be put together is its logger's to report
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
