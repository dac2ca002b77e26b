"""Fence passages off as data: no text in a passage can end it, number it, or pose as another speaker."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from tasks.citations.markers import MARK
from tasks.citations.quotes import STANDS_FOR
from tasks.models import Hit

_INSTEAD = {plain: shown for shown, plain in STANDS_FOR.items()}
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
_FENCE = re.compile(r"<(?=\s*+/?\s*+passage)", re.IGNORECASE)
_CONTROL = re.compile(
    # Control tokens of chat templates: ChatML and Llama 3, DeepSeek, Gemma, Llama 2 and Mistral, reasoning, tools.
    r"<(?=\s*+[|｜])"
    r"|<(?=\s*+/?\s*+(?:s|bos|eos|pad|unk|mask|(?:start|end)_of_turn|think|tool_(?:call|response|use)s?|tools|"
    r"system|assistant|user|sop|eop|gmask|end_of_utterance|im_(?:start|end)|unused\d++|extra_id_\d++|reserved\w*+|0x[0-9a-f]{2})\s*+>)"
    r"|<(?=<\s*+/?\s*+SYS\s*+>>)|(?<=‹)<(?=\s*+/?\s*+SYS\s*+>>)"
    r"|<(?=\s*+/?\s*+(?:seed|minimax):\w++(?:\s*+>|:))"
    r"|\](?=~[!b]?\w*+[\[\]])|\[(?=e~\[)|\[(?=\s*+g?MASK\s*+\])|\[(?=\s*+[se]op\s*+\])"
    r"|\[(?=\s*+/?\s*+(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|CALL_ID|ARGS)\s*+\])",
    re.IGNORECASE,
)


def neutral(text: str, marks: bool = False) -> str:
    """Return a text without hidden characters, and with the syntax of chat templates and of our fence escaped.

    With ``marks``, numbers in brackets are escaped too, since a model would copy them as citations. All other
    characters stay as they are.
    """
    text = _HIDDEN.sub("", text)
    for pattern in (_FENCE, _CONTROL):
        text = pattern.sub(lambda match: _INSTEAD[match[0]], text)
    return MARK.sub(lambda match: match[0].replace("[", _INSTEAD["["]), text) if marks else text


def fence_of(question: str, hits: Sequence[Hit]) -> str:
    """Return the name of a prompt's fence: a hash of the prompt, so no text inside the prompt can contain it."""
    parts = [question, *(part for hit in hits for part in (hit.key, hit.heading, hit.text))]
    whole = "".join(f"{len(part)}:{part}" for part in parts)
    return f"passage-{hashlib.sha256(whole.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def fenced(n: int, hit: Hit, fence: str, marks: bool = False) -> str:
    """Return a passage between marks that no text in it can close: key and heading in one line, then the text."""
    place = " › ".join(part for part in (hit.key, hit.heading) if part)
    body = neutral(f"{' '.join(place.split())}\n{hit.text}", marks)
    return f'<{fence} n="{n}">\n{body}\n</{fence}>'
