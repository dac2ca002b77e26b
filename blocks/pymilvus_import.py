"""Import pymilvus without letting it reset this process' logging. Every module imports it through here."""

from __future__ import annotations

import importlib
import logging.config
import threading
from functools import cache
from types import ModuleType

_loading = threading.Lock()


@cache
def load_pymilvus() -> ModuleType:
    """Import pymilvus and return it, without what its import does to logging.

    It resets the logging of the whole process (``logging.config.dictConfig``): Prefect's handlers are
    shut down, which takes 5 s and loses the log lines of the run from there on.
    """
    with _loading:
        configure = logging.config.dictConfig
        logging.config.dictConfig = lambda _config: None  # type: ignore[assignment]
        try:
            pymilvus = importlib.import_module("pymilvus")
        finally:
            logging.config.dictConfig = configure
    # It logs each error with its stack before raising it; we raise the same in a sentence.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return pymilvus
