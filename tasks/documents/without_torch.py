"""Loaded first in parsing processes: spaCy loads torch where it is installed, and no parser uses it.

That takes 2 s and 180 MB a process. It must never be imported in a process that embeds. Nor may a parser tell anybody
that it works: unstructured reports itself when it is loaded, and each file, unless these variables are set.
"""

from __future__ import annotations

import os
import sys

sys.modules.setdefault("torch", None)  # type: ignore[arg-type] # `import torch` then fails like a missing library
os.environ.update(DO_NOT_TRACK="1", SCARF_NO_ANALYTICS="1")
