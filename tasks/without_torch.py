"""Loaded first in parsing processes: spaCy loads torch where it is installed, and no parser uses it.

That takes 2 s and 180 MB a process. It must never be imported in a process that embeds.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("torch", None)  # type: ignore[arg-type] # `import torch` then fails like a missing library
