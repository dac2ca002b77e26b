"""Ask whether a text may pass: a moderation endpoint of OpenAI's form, or a guard model that a chat server runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks import metrics
from tasks.errors import LockstepError, PartError, TransientError
from tasks.sanitize import one_line

if TYPE_CHECKING:
    import httpx

    from blocks.chat_model import ChatModel
    from blocks.settings import Settings

logger = logging.getLogger(__name__)
SECONDS, CONNECT_SECONDS = 10.0, 3.0
UNNAMED = "no category named"
UNCHECKED_NOTE = "the moderation did not answer: this was not checked"
LONGEST_NAME = 60
GUARD_TOKENS = 64
VERDICT = re.compile(r"(?i)\b(safe|unsafe|controversial)\b")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The categories under which a text was flagged, none if it may pass; and whether it was checked at all."""

    categories: tuple[str, ...] = ()
    checked: bool = True

    @property
    def notes(self) -> tuple[str, ...]:
        """What readers have to know of the check."""
        return () if self.checked else (UNCHECKED_NOTE,)


def moderated(text: str, settings: Settings, chat: ChatModel | None) -> Verdict:
    """Return the verdict on a text. Without an endpoint everything passes.

    If the endpoint fails, ``moderation_failure`` decides: raise its error, or let the text pass unchecked.
    """
    if not settings.moderation_url:
        return Verdict()
    try:
        return Verdict(flagged(text, settings, chat))
    except LockstepError as error:
        if settings.moderation_failure == "closed":
            raise
        logger.warning("a text was not moderated: %s", error)
        metrics.GUARDED.labels("moderation", "unchecked").inc()
        return Verdict(checked=False)


def flagged(text: str, settings: Settings, chat: ChatModel | None) -> tuple[str, ...]:
    """Return the categories under which the endpoint flags a text; none if it does not.

    Raises ``TransientError`` if it does not answer, and ``PartError`` if it refuses or answers in another form.
    """
    import httpx

    where = f"Moderation: {settings.moderation_url}"
    api = API[settings.moderation_api]
    asked = api.body(text) | ({"model": settings.moderation_model} if settings.moderation_model else {})
    key = key_for(settings.moderation_url, chat)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = _client().post(f"{settings.moderation_url.rstrip('/')}/{api.path}", json=asked, headers=headers)
    except httpx.HTTPError as error:
        raise TransientError(
            f"{where} does not answer ({type(error).__name__}). Check LOCKSTEP_MODERATION_URL, or whether it is up."
        ) from error
    if answer.status_code in (408, 429) or answer.status_code >= 500:
        raise TransientError(f"{where} answered {answer.status_code}. Try again, or see its log.")
    if answer.status_code != 200:
        raise PartError(
            f"{where} refused the request ({answer.status_code}). Check LOCKSTEP_MODERATION_URL, which ends in /v1, "
            "and LOCKSTEP_MODERATION_MODEL."
        )
    try:
        return api.read(answer.json())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise PartError(
            f"{where} did not answer as {api.form}. Check LOCKSTEP_MODERATION_URL and LOCKSTEP_MODERATION_API."
        ) from error


def categories(told: Any) -> tuple[str, ...]:
    """Return the categories of an endpoint's answer. Raises ``ValueError`` or the like for another form."""
    results = told["results"]
    if not results:
        raise ValueError("no results")
    named: dict[str, None] = {}
    for result in results:
        if not isinstance(result["flagged"], bool):
            raise TypeError(result["flagged"])
        if result["flagged"]:
            of_result = sorted(name for name, is_so in (result.get("categories") or {}).items() if is_so)
            named |= dict.fromkeys(one_line(name)[:LONGEST_NAME] for name in of_result or [UNNAMED])
    return tuple(named)


def guard_verdict(told: Any) -> tuple[str, ...]:
    """Return the categories that a guard model names in a chat completion; none if it says that the text is safe.

    Reads the forms of Llama Guard ("unsafe", and "S1,S10" on the next line) and of Qwen3Guard ("Safety: Unsafe" and
    "Categories: Violent"). What Qwen3Guard calls controversial is flagged. Raises ``ValueError`` for another form.
    """
    text = told["choices"][0]["message"]["content"]
    verdict = VERDICT.search(text)
    if verdict is None:
        raise ValueError("neither safe nor unsafe")
    if verdict[1].lower() == "safe":
        return ()
    line = next((line for line in text[verdict.end() :].splitlines() if line.strip()), "")
    names = (one_line(name).strip()[:LONGEST_NAME] for name in line.rpartition(":")[2].split(","))
    return tuple(dict.fromkeys(name for name in names if name and name.lower() != "none")) or (UNNAMED,)


@dataclass(frozen=True, slots=True)
class Api:
    """A way to ask for a verdict: the path below the address, the body, what reads the answer, and its name."""

    path: str
    body: Callable[[str], dict[str, Any]]
    read: Callable[[Any], tuple[str, ...]]
    form: str


API = {
    "moderations": Api("moderations", lambda text: {"input": text}, categories, "OpenAI's /v1/moderations does"),
    "chat": Api(
        "chat/completions",
        lambda text: {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": GUARD_TOKENS},
        guard_verdict,
        "a guard model does, with safe or unsafe",
    ),
}


def key_for(url: str, chat: ChatModel | None) -> str:
    """Return the key for an endpoint: the chat model's if both are one server, else none. No other server gets it."""
    if chat is None or chat.api_key is None:
        return ""
    ours, theirs = urlsplit(chat.base_url), urlsplit(url)
    return chat.api_key.get_secret_value() if ours[:2] == theirs[:2] else ""


@cache
def _client() -> httpx.Client:
    import httpx

    return httpx.Client(
        timeout=httpx.Timeout(SECONDS, connect=CONNECT_SECONDS), transport=httpx.HTTPTransport(retries=1)
    )
