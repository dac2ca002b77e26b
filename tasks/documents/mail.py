"""Split a mail message into its own text and the messages that it contains. Attachments are not read."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage, Message
from typing import Literal

from tasks.documents.decode import decode


@dataclass(frozen=True, slots=True)
class Letter:
    """A message: its subject, its text and the text's kind, and the subjects of the messages that contain it."""

    subject: str
    kind: Literal["html", "text"]
    text: str
    within: tuple[str, ...] = ()


def letters(data: bytes) -> Iterator[Letter]:
    """Yield a message, then the messages in it: those of a digest, or forwarded ones that are no attachments."""
    yield from _letters(email.message_from_bytes(data, policy=email.policy.default), ())


def _letters(message: Message, within: tuple[str, ...]) -> Iterator[Letter]:
    subject = str(message.get("Subject", "")).strip()
    body = message.get_body(("html", "plain")) if isinstance(message, EmailMessage) else None
    if body is not None:
        kind: Literal["html", "text"] = "html" if body.get_content_subtype() == "html" else "text"
        yield Letter(subject, kind, _text(body), within)
    else:  # a multipart message without its boundary: all of it is the text
        lost = message.get_content_maintype() == "multipart" and not message.is_multipart()
        yield Letter(subject, "text", _decoded(message) if lost else "", within)
    for inner in _contained(message):
        yield from _letters(inner, (*within, subject))


def _contained(part: Message) -> Iterator[Message]:
    """Yield the messages in a message's parts, but not the messages within those."""
    if not part.is_multipart():
        return
    inside = part.get_content_type() == "message/rfc822"
    for one in part.get_payload():
        if not isinstance(one, Message):
            continue
        if inside:
            yield one
        elif one.get_content_disposition() != "attachment":
            yield from _contained(one)


def _text(part: Message) -> str:
    try:
        text = part.get_content() if isinstance(part, EmailMessage) else None
    except (LookupError, UnicodeError, ValueError):  # an unknown encoding, or the wrong one
        text = None
    return text if isinstance(text, str) else _decoded(part)


def _decoded(part: Message) -> str:
    data = part.get_payload(decode=True)
    return decode(data) if isinstance(data, bytes) else ""
