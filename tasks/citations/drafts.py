"""A chat model's statements before they are checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.models import Hit


@dataclass(frozen=True, slots=True)
class Cited:
    """A passage that the model names, from 1, and the words it claims to stand there; None when it gave none."""

    passage: int
    quote: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A piece of an answer as the model wrote it; ``after`` is the white space behind it.

    One that is no ``statement`` (a list's number, a heading) needs no citation.
    """

    text: str
    cited: tuple[Cited, ...] = ()
    after: str = " "
    statement: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, the passages that it was shown, and the tokens it counted; no drafts: it found no answer.

    Only what is ``whole`` may answer later questions as well.
    """

    drafts: tuple[Draft, ...]
    passages: tuple[Hit, ...]
    tokens: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    whole: bool = True

    @property
    def text(self) -> str:
        """What it says, unchecked."""
        return "".join(draft.text + draft.after for draft in self.drafts).strip()
