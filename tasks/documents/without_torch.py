"""Block torch and telemetry in parsing processes. The fork server loads this module first.

spaCy loads torch if it is installed, though no parser uses it. That takes 2 s and 180 MB a process. Never import this
module in a process that embeds. unstructured reports to its makers when it is loaded, and for each file, unless these
variables are set.
"""

from __future__ import annotations

import os
import sys

sys.modules.setdefault("torch", None)  # type: ignore[arg-type] # `import torch` then fails like a missing library
os.environ.update(DO_NOT_TRACK="1", SCARF_NO_ANALYTICS="1")
