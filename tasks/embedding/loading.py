"""One model is loaded at a time, of whatever kind."""

from __future__ import annotations

import threading

loading = threading.Lock()
"""Held while a model is loaded. transformers sets the process' default dtype, and replaces functions of torch, while it
does: of two models loaded at once, one or both have some of the other's dtype, and fail or embed otherwise for good."""
