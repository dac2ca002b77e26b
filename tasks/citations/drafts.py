"""A chat model's answer before it is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.models import Hit


@dataclass(frozen=True, slots=True)
class Cited:
    """A passage that the model cites, numbered from 1, and its quote of that passage; None if it gave no quote."""

    passage: int
    quote: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A piece of an answer as the model wrote it. ``after`` is the white space after it.

    A piece that is no ``statement`` (a list's number, a heading) needs no citation.
    """

    text: str
    cited: tuple[Cited, ...] = ()
    after: str = " "
    statement: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """The model's answer, the passages that it was shown, and the tokens it counted. No drafts mean no answer.

    Only a ``whole`` reply may answer later questions as well.
    """

    drafts: tuple[Draft, ...]
    passages: tuple[Hit, ...]
    tokens: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    whole: bool = True

    @property
    def text(self) -> str:
        """The text of the reply, unchecked."""
        return "".join(draft.text + draft.after for draft in self.drafts).strip()
