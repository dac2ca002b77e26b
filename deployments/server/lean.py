"""Leave libraries out of the service that others load and nothing in it uses. They cost memory and a slower start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

UNUSED = ("sklearn", "sklearn.metrics")
"""sentence-transformers imports functions of these when it is loaded, and calls them when it trains or evaluates."""


class Absent(ModuleType):
    """A module that has every name. What it gives can be imported, and raises ``ImportError`` when it is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        module = self.__name__

        def absent(*_: Any, **__: Any) -> Any:
            raise ImportError(f"the service leaves {module} out, and something calls {module}.{name}")

        return absent


def leave_out() -> None:
    """Keep them from being loaded. Call it before sentence-transformers or pymilvus is imported."""
    # pandas, which pymilvus loads, would load it, for tables that the service has none of.
    sys.modules.setdefault("pyarrow", None)  # type: ignore[arg-type]
    if "sklearn" not in sys.modules:
        for name in UNUSED:
            sys.modules[name] = made = Absent(name)
            made.__path__ = []
            made.__spec__ = ModuleSpec(name, None)
