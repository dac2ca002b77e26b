"""JSON as the service sends it: no byte of it commands a terminal, whatever a document holds."""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import JSONResponse

from tasks.sanitize import escaped_json


def dumped(data: Any) -> str:
    """Return JSON in one line, with control characters and marks of direction escaped."""
    return escaped_json(json.dumps(data, ensure_ascii=False, separators=(",", ":")))


class Reply(JSONResponse):
    """A response in JSON."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return dumped(content).encode()
