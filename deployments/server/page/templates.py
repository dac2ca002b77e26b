"""Pages for people. Texts of documents are untrusted: every value is escaped, and no page runs what it shows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.responses import HTMLResponse

from tasks.sanitize import visible

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
APP = "default-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors 'none'"
"""The policy of the page at `/`: its own script and style, nothing inline, nothing from elsewhere."""
TEXT = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""The policy of a page that shows a document: no script at all. Origins of chat pages may follow at its end."""


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(HERE / "templates")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=shown
    )


def shown(value: Any) -> Any:
    """Return a value for a page: texts without what commands a terminal, since people open links with `curl` too."""
    return visible(value) if type(value) is str else value


def page(template: str, policy: str = TEXT, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page made from a template. Browsers hold to ``policy``."""
    text = _templates().get_template(template).render(**values)
    return HTMLResponse(text, status, {"content-security-policy": policy})
