"""What the server says of itself; light, since `lockstep mcp` says the same before it loads anything."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

INSTRUCTIONS = (
    "Lockstep answers questions from an index of documents that is kept in step with a bucket. Use `ask` for an answer "
    "with checked citations: a claim is verified if its quote stands word for word in the document. Use `search` to "
    "find passages and `fetch` to read the section around one. Give the url of a passage with what you say from it."
)


def about() -> dict[str, Any]:
    """Return the server's name, version and instructions, as the SDK takes them."""
    return {
        "name": "lockstep",
        "title": "Lockstep",
        "version": version("lockstep"),
        "instructions": INSTRUCTIONS,
    }
