"""Import pymilvus without its side effects on logging. Every module here imports it this way."""

from __future__ import annotations

import importlib
import logging.config
import threading
from functools import cache
from types import ModuleType

_loading = threading.Lock()


@cache
def load_pymilvus() -> ModuleType:
    """Import pymilvus and return it, but keep the process's logging as it is.

    The import resets the logging of the whole process (``logging.config.dictConfig``). That shuts down Prefect's
    handlers, takes 5 s and loses all later log lines of the run.
    """
    with _loading:
        configure = logging.config.dictConfig
        logging.config.dictConfig = lambda _config: None  # type: ignore[assignment]
        try:
            pymilvus = importlib.import_module("pymilvus")
        finally:
            logging.config.dictConfig = configure
    # pymilvus logs each error with its stack before raising it. We raise the same error as a sentence.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return pymilvus
